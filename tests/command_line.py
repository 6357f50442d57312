"""The command line as a user runs it."""

import os
import subprocess
import sys

TOKEN = "a-token-that-must-not-be-written-anywhere-0123456789abcdef"


def command_line(*arguments):
    """Run `python -m dpe_ray` as a user would; returns the finished process."""
    return subprocess.run(
        [sys.executable, "-m", "dpe_ray", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=400,
        env={"RAY_AUTH_TOKEN": TOKEN, **os.environ, "OMP_NUM_THREADS": "1"},
    )
