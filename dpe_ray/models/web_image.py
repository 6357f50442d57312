"""An image on the web, before anyone fetched it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WebImage:
    """What a provider says of an image."""

    url: str
    """Of the file."""
    page: str
    """Where people see it, or the file's URL."""
    licence: str
    """Such as `by-sa 4.0`; empty when none is stated."""
    attribution: str = ""
    """Whom to name, and how."""
