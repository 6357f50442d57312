"""Prompts as files: Jinja, one per file, each with a version that enters journal keys."""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template, TemplateError, meta

from dpe_ray.errors import ConfigError

_VERSION = re.compile(r"\{#\s*version:\s*(\w+)\s*#\}")


@dataclass(frozen=True)
class PromptFile:
    """One prompt. Blocks swallow the newline behind them and the spaces before them; the last newline is dropped."""

    name: str
    version: str
    template: str

    @classmethod
    def load(cls, package: str, name: str, override: str = "") -> "PromptFile":
        """`prompts/NAME.jinja` of a package, or the user's own file in its place.

        Raises ConfigError when it cannot be used, or asks for a value that the package's own does not. No package: what
        it asks for is not looked at.
        """
        source = Path(override) if override else files(package) / "prompts" / f"{name}.jinja"
        try:
            text = source.read_text(encoding="utf-8")
            _compile(text)
        except (OSError, UnicodeDecodeError, TemplateError) as error:
            raise ConfigError(f"prompt {name}: {source} cannot be used ({error}); give a Jinja text file") from error
        if override:
            if package:
                _check_values(name, text, cls.load(package, name).template, override)
            return cls(name, hashlib.sha256(text.encode()).hexdigest()[:8], text)
        stated = _VERSION.match(text)
        if not stated:
            raise ConfigError(f"prompt {name}: {source} must begin with {{# version: 1 #}}")
        return cls(name, stated[1], text)

    @property
    def label(self) -> str:
        """`name@version`; of a user's file the version is the head of its hash."""
        return f"{self.name}@{self.version}"

    def render(self, **values: object) -> str:
        """Fill in the values. Raises ConfigError when the file asks for a value that nobody gives."""
        try:
            return _compile(self.template).render(**values)
        except TemplateError as error:
            known = ", ".join(sorted(values))
            raise ConfigError(f"prompt {self.label}: {error}; it may use {known}") from error


@lru_cache(maxsize=64)
def _compile(text: str) -> Template:
    return Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(text)


def _check_values(name: str, text: str, ours: str, place: str) -> None:
    """Raise ConfigError when a user's prompt asks for values that ours does not."""
    asked, known = (meta.find_undeclared_variables(Environment().parse(source)) for source in (text, ours))
    if unknown := sorted(asked - known):
        raise ConfigError(f"prompt {name}: {place} asks for {unknown[0]!r}; it may use {', '.join(sorted(known))}")
