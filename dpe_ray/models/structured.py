"""From what a model wrote to the type that was asked for."""

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dpe_ray.errors import BadReply

M = TypeVar("M", bound=BaseModel)

_TRIES = 200
"""Opening braces that are tried; a reply with more is no answer."""


def parse_reply(text: str, model: type[M]) -> M:
    """Take the last JSON object in the text that fits `model`; prose and code fences around it do not matter.

    The last, since models restate the form or think aloud before they answer. Raises BadReply.
    """
    problem = "holds no JSON object"
    for value in reversed(_objects(text)):
        try:
            return model.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            problem = f"does not fit {model.__name__}: {key}: {first['msg']}"
    raise BadReply(f"reply {problem}; it begins {text.strip()[:80]!r}")


def _objects(text: str) -> list[dict[str, Any]]:
    decoder = json.JSONDecoder(strict=False)  # models put bare newlines into strings
    found = []
    at = text.find("{")
    for _ in range(_TRIES):
        if at < 0:
            break
        try:
            value, end = decoder.raw_decode(text, at)
            found.append(value)
        except (ValueError, RecursionError):
            end = at + 1
        at = text.find("{", end)
    return found
