import asyncio
import subprocess
import sys
import threading
import time

import pytest

from dpe_ray.runtime.daemon import in_daemon


async def test_the_result_and_the_error_come_back():
    assert await in_daemon(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        await in_daemon(lambda: 1 // 0)


async def test_a_cancelled_caller_does_not_wait_and_the_work_goes_on():
    go, done = threading.Event(), threading.Event()

    def work():
        go.wait(20)
        done.set()

    task = asyncio.create_task(in_daemon(work))
    await asyncio.sleep(0.05)
    start = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - start < 2
    go.set()
    assert await asyncio.to_thread(done.wait, 20)


def test_neither_the_loop_nor_the_interpreter_waits_at_their_end():
    script = """
import asyncio, time
from dpe_ray.runtime.daemon import in_daemon
async def main():
    await asyncio.wait_for(in_daemon(lambda: time.sleep(60)), 0.1)
try:
    asyncio.run(main())
except TimeoutError:
    print("timed out")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("timed out\n", "")
