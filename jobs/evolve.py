"""Ray job entry point: run all rounds, or go on. `python jobs/evolve.py RUN_YAML [--run-dir DIR] [--set a.b=c ...]`."""

import sys

from dpe_ray.__main__ import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
