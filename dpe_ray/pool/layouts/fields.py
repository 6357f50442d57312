"""What a row of any layout says: its image, a caption made of all texts about it, its licence."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dpe_ray.errors import PoolError
from dpe_ray.pool.blocks import IMAGE_KEYS
from dpe_ray.pool.readers import cell_bytes, one_line, pick_key

CAPTION_KEYS = ("caption", "captions", "text", "txt", "alt", "alt_text", "title", "description", "tags", "keywords")
LICENCE_KEYS = ("licence", "license")
TEXT_KEYS = (*CAPTION_KEYS, *LICENCE_KEYS)
MOST_CAPTION = 2000
"""Characters."""


@dataclass(frozen=True)
class PoolRow:
    """One row as it was read."""

    where: str
    """File and row, for messages."""
    data: bytes = b""
    """The encoded image."""
    error: str = ""
    """Why there is no image."""
    caption: str = ""
    """Captions, titles and tags, if the row has any."""
    licence: str = ""
    last: bool = False
    """Known to be its block's last."""


def row_of(where: str, fields: Mapping[str, Any], beside: str, *, bare: bool) -> PoolRow:
    """Take what is of use from a table's row or a JSON object; `beside` is its file, for relative paths."""
    licence = _text(next((fields[key] for key in LICENCE_KEYS if key in fields), ""))
    said = PoolRow(where, caption=caption_of(fields), licence=licence)
    if bare:
        return said
    try:
        return replace(said, data=cell_bytes(fields[pick_key(list(fields), IMAGE_KEYS, where)], beside))
    except PoolError as error:
        return replace(said, error=one_line(error))


def caption_of(fields: Mapping[str, Any]) -> str:
    """All texts about the image, in the order of `CAPTION_KEYS`."""
    texts = (_text(fields[key]) for key in CAPTION_KEYS if key in fields)
    return "; ".join(text for text in texts if text)[:MOST_CAPTION]


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(text for text in map(_text, value) if text)
    return " ".join(value.split()) if isinstance(value, str) else ""
