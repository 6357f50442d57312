"""Ray job entry point: run up to round N and pause there, one job per round.

`python jobs/round.py N RUN_YAML [--run-dir DIR] [--set a.b=c ...]`. A round that is already closed costs nothing, so
the same job may be sent again.
"""

import sys

from dpe_ray.__main__ import main

if __name__ == "__main__":
    if len(sys.argv) < 3 or not sys.argv[1].isdigit() or sys.argv[1] == "0":
        sys.exit("usage: python jobs/round.py N RUN_YAML [--run-dir DIR] [--set a.b=c ...], with N from 1")
    main(["run", *sys.argv[2:], "--until-round", sys.argv[1]])
