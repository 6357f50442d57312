"""What a look at config and machine gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    """A key of the config, or a part of the machine."""
    found: str
    ok: bool = True
    doubtful: bool = False
    """Nothing is missing, and yet it may not be what was meant."""


def meant(name: str, known: Sequence[str]) -> str:
    """The known name that is near, as the end of a message; empty without one."""
    near = get_close_matches(name, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""
