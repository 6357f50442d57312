"""The command line as a user runs it."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress

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


@contextmanager
def in_background(command, **options):
    """Hold a process in a group of its own, which ends with the block: a failed assertion leaves nothing running."""
    process = subprocess.Popen(command, text=True, start_new_session=True, **options)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # it ended by itself, with all that it started
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
