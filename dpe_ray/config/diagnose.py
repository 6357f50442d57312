"""How a run finds where the student is weak."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dpe_ray.config.part import Fraction, Part, Positive


class DiagnoseConfig(Part):
    """How weak places are found."""

    method: Literal["categories", "answer_switch", "both"] = "categories"
    """categories: DPE's, the skill of every item and the reason of every failure; answer_switch: error-driven tuning's,
    the step at which each wrong rationale errs and the skill that was missing there, and nothing else is asked about
    the items; both."""
    locate: Literal[
        "answer_switch", "largest_jump", "change_point", "random", "prompt_per_step", "pseudo_rationale", "none"
    ] = "answer_switch"
    """How the wrong step is found; `none` is an ablation: the analyst sees the rationale with no step marked."""
    delta: Fraction = 0.2
    """Lead of the wrong option over the right one, in probability, that answer_switch asks for."""
    persistence: Positive = 2
    """Prefixes in a row on which it asks for that lead."""
    prior: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.6
    """Chance of the right option that the reader is told beforehand (arXiv 2412.15652: 0.6)."""
    skills_per_error: Annotated[int, Field(ge=1, le=3)] = 1
    """One missing skill per error (arXiv 2412.15652), or two to this many with weights."""
    analysis: bool = True
    """False is an ablation: no missing skill is named, the wrong step's own text is what is retrieved by."""
    needs: bool = False
    """Sample answers of the student for what a cell can still learn, and change the conditions of failed items for what
    it lacks; `plan.method: posterior` reads the former."""
    votes: bool = False
    """Grade by the majority of sampled answers where the probe's own cannot be trusted: it finds where the student is
    unsure, and measures no accuracy."""
    answers: Annotated[int, Field(ge=4)] = 8
    """Answers per item that `needs` and `votes` sample."""
    embedder: str = ""
    """Entry of `models` whose embeddings merge names of skills that mean the same; words alone do where it is empty."""
    failures_per_cell: Positive = 5
    """Failed items kept as examples for the planner."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        locates = self.method != "categories"
        if locates and self.locate == "none" and not self.analysis:
            raise ValueError("analysis: false retrieves by the wrong step, and locate: none finds none; change one")
        if self.votes and (locates or self.needs):
            raise ValueError("votes: true has no gold answers, which needs and methods other than categories ask for")
        return self
