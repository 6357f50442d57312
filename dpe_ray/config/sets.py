"""What a run learns from and is measured on."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from dpe_ray.config.part import Part, Positive


def _stated(place: Any) -> Any:
    if place is None or (isinstance(place, str) and not place.strip()):
        raise ValueError("is empty; give a folder, glob, file, URL or builtin:NAME")
    return place


Place = Annotated[str, BeforeValidator(_stated)]
"""Folder, glob, file, URL or `builtin:NAME`."""


class SourceConfig(Part):
    """Where images or samples come from."""

    source: Place
    """Folder, glob, one or many files of parquet, Arrow, WebDataset tar or JSONL, local or behind any fsspec URL, or
    `builtin:NAME`."""

    @model_validator(mode="before")
    @classmethod
    def _is_mapping(cls, part: Any) -> Any:
        if isinstance(part, str):
            told = f"is the text {part!r}" if part.strip() else "is empty"
            raise ValueError(f"{told}; write it as {{source: FOLDER, FILE or builtin:NAME}}")
        return part


class ProbeConfig(SourceConfig):
    """The items a diagnosis sees; drawn anew each round."""

    size: Positive = 200
    """Items per round, stratified by category."""
    second: Annotated[int, Field(ge=0)] = 0
    """Further items, drawn when these are judged: where the accuracy of a category is least certain. They make the
    accuracies of cells more exact; counts of errors they bend towards the uncertain."""


class DecisionConfig(Part):
    """What decides whether a round's policy is kept."""

    suite: Place
    """The gate suite: as `pool.source`, labelled."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Family-wise over the guarded categories."""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """The largest fall of a category that is tolerated, as a fraction of 1."""
    guard: Literal["fall", "proven"] = "fall"
    """fall: roll back when a category fell for certain (Holm); the categories in which a fall beyond the margin is not
    excluded are named. proven: roll back unless non-inferiority within the margin is shown for every category, which
    wants about 970 items a category at a margin of 0.05."""


class SuiteConfig(Part):
    """A suite of the final measurement."""

    suite: Place


class AnswerConfig(Part):
    """How the student answers when it is measured: greedily, once."""

    max_tokens: Positive = 256
    concurrency: Positive = 32
    """Items in flight per worker, here and wherever an item is a call or two, as in a diagnosis; slots of annotation,
    which are many calls, have `supply.concurrency`. An endpoint's own `concurrency` bounds both."""
