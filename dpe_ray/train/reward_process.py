"""The other side of `user_reward`: a Python that loads one reward function and answers calls for it.

It imports neither torch nor anything of the trainer, so it starts in a fraction of a second.
"""

import importlib.util
import inspect
import math
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dpe_ray.errors import ConfigError
from dpe_ray.types import Completion, Sample

Function = Callable[[Sample, Completion], float]


def serve(address: str, channel: Connection, timeout_s: float) -> None:
    """Send "" when the function is loaded, else what is wrong with it; then answer calls until the other side is gone.

    An answer is the score, or the kind and the reason of a failure.
    """
    try:
        function = load_function(address)
    except ConfigError as error:
        channel.send(str(error))
        return
    channel.send("")
    while True:
        try:
            sample, completion = channel.recv()
        except EOFError:
            return
        # Should the other side die while the function hangs, nobody else would end this process.
        signal.setitimer(signal.ITIMER_REAL, 2 * timeout_s + 1)
        channel.send(score(function, sample, completion))
        signal.setitimer(signal.ITIMER_REAL, 0)


def load_function(address: str) -> Function:
    """Load `path/to/file.py:function`; its folder is searched first for what it imports. Raises ConfigError."""
    path, _, name = address.rpartition(":")
    if not Path(path).is_file():
        raise ConfigError(f"{path or address} is no file; give path/to/file.py:function")
    sys.path.insert(0, str(Path(path).absolute().parent))
    spec = importlib.util.spec_from_file_location(f"user_reward_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # recording border: what is wrong with the user's file is told to the user
        raise ConfigError(f"{path} cannot be loaded ({_line(error)})") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"{path} has no function {name}")
    if not _takes_two(function):
        raise ConfigError(f"{address} must take a sample and a completion: def {name}(sample, completion) -> float")
    return function


def score(function: Function, sample: Sample, completion: Completion) -> float | tuple[str, str]:
    """Call it once."""
    try:
        number = float(function(sample, completion))
    except Exception as error:  # recording border: one completion's failure is counted by whoever asked
        return type(error).__name__, _line(error)
    return number if math.isfinite(number) else ("not finite", f"the score is {number}")


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


if __name__ == "__main__":
    serve(sys.argv[1], Connection(int(sys.argv[2])), float(sys.argv[3]))
