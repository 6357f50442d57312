"""What a run adds and how much of it: the plan, and how it is filled."""

import warnings
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dpe_ray.config.part import Fraction, Part, Positive, Workers


class PlanConfig(Part):
    """How the diagnosis becomes quotas."""

    method: Literal["tiered", "error_count", "posterior", "uniform"] = "tiered"
    """tiered: DPE's utility of a cell's accuracy; error_count: every error weighs the same (error-driven tuning);
    posterior: share x need x learnability; uniform: an ablation in which the diagnosis decides nothing."""
    total: Positive = 1024
    """Samples to accept in a round."""
    floor: Fraction = 0.02
    """Least weight of every category, so that a blind spot of the probe is still explored."""
    replay: Fraction = 0.0
    """Labelled samples mixed into training, as a share of `total`."""
    target: dict[str, Annotated[float, Field(ge=0)]] = {}
    """What the model is wanted for, read by `posterior`: shares by category or by `category/skill`, on any scale. What
    is not named gets the floor only; all cells alike when empty."""
    permute_seed: Annotated[int, Field(ge=0)] | None = None
    """Control experiment: deal the weights out anew among the cells by this seed, so that nothing is aimed."""


class SupplyWorkers(Workers):
    """Annotation workers."""

    labels: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Custom resources that each of them takes, such as `{annotation: 0.01}` for the annotation nodes of `cluster/`.
    Without a node that has them nothing is annotated; empty on one machine."""


class RetrieveConfig(Part):
    """How labelled samples are found for a cell."""

    source: Literal["support", "probe"] = "support"
    """What is searched. probe is an ablation: the round's own probe items with their gold answers, as in tuning on the
    validation set alone; the next round's probe may draw them again, so only gate and final suites say what it did."""
    by: Literal["skills", "questions", "chance"] = "skills"
    """skills: a cell's missing skills are looked for among those of the samples. The others are ablations in which no
    sample is labelled. questions: the probe questions of the cell's category among those of the samples, as tasks are
    selected by their instructions in INSTA (arXiv 2404.16418); chance: at random, as a static set is drawn."""
    index: Literal["bm25", "dense", "hybrid"] = "bm25"
    """bm25: by words; dense: by the cosine of embeddings; hybrid: both, fused by rank."""
    filling: Literal["round_robin", "fixed_k", "score_pool"] = "round_robin"
    """Whose turn it is: each error's in turn; the first `k` of each error and no more; the best score of all."""
    k: Positive = 10
    """Samples per error of fixed_k."""
    same_category: bool = False
    """Only samples of a cell's own category, for a support set that is filed under the categories of the probe."""
    screen: bool = False
    """The student answers the whole support set first, `pass_rate_samples` times a sample and anew for every policy;
    only what lies in the band of `pass_rate` is labelled and found. Costs student calls and saves teacher calls."""
    embedder: str = ""
    """Entry of `models` that gives the embeddings of dense and hybrid."""
    shards: Positive = 1
    """Parts of the index, each in an actor of its own that takes half a CPU, for sets that do not fit one process: a
    million samples take about 0.7 GiB by words, and 4 bytes per number of an embedding."""

    @model_validator(mode="after")
    def _embeds(self) -> Self:
        if self.index != "bm25" and not self.embedder:
            raise ValueError(f"index: {self.index} needs embedder: the entry of models that gives embeddings")
        if self.index != "bm25" and self.by == "chance":
            raise ValueError(f"index: {self.index} is not asked when samples are found by: chance; leave it out")
        return self


class AnnotateConfig(Part):
    """How a slot of `annotate` begins."""

    start: Literal["image", "cell"] = "image"
    """image: a slot takes the next image of `pool`, and the planner finds the open cell that it serves; cell: a slot
    takes the neediest cell, the planner writes a query for it, and `tools.search` finds images to select from."""


class ConstructConfig(Part):
    """How samples are drawn whose answers are known by construction."""

    programs: tuple[str, ...] = ()
    """Built-in programs by name, programs of your own as `path/to/file.py:ClassName`; all built-in ones when empty.
    Naming a file is your word that it may be run; driver and workers read it."""
    planner: bool = True
    """Whether the planner role fills in the programs' parameters; else all are sampled and no teacher is asked."""
    per_call: Positive = 8
    """Parameter sets that one planner call gives."""


with warnings.catch_warnings():
    # pydantic warns that the key hides `BaseModel.construct`, its first version's method, which nobody calls here
    warnings.filterwarnings("ignore", 'Field name "construct"', UserWarning)

    class _Constructs(Part):
        construct: ConstructConfig = ConstructConfig()  # type: ignore[assignment]


class SupplyConfig(_Constructs):
    """How quotas are filled."""

    order: Annotated[tuple[Literal["retrieve", "construct", "annotate"], ...], Field(min_length=1)] = ("annotate",)
    """Suppliers in turn: each is asked for what those before it left missing. retrieve finds samples of `support`,
    construct draws pictures by program, annotate writes questions about images that `annotate.start` says."""
    annotate: AnnotateConfig = AnnotateConfig()
    retrieve: RetrieveConfig = RetrieveConfig()
    pass_rate: tuple[Fraction, Fraction] = (0.3, 0.8)
    """Band of the student's pass rate that is kept (DPE: 0.3-0.8), both ends included."""
    pass_rate_samples: Positive = 9
    """Answers of the current student per candidate (DPE: 9)."""
    solves: Annotated[int, Field(ge=0)] = 1
    """Blind solves by the solver role, all asked in one call; they must agree with the proposed answer."""
    dissent: Annotated[int, Field(ge=0)] = 0
    """How many of the `solves` may disagree. Of a noisy teacher four of five let more right labels and fewer wrong ones
    pass than two of two (`benchmarks/noisy_teacher.py`)."""
    attempts: Positive = 3
    """Tries of the question writer per slot (DPE: 3)."""
    slots_per_sample: Annotated[float, Field(ge=1)] = 4.0
    """A cell is exhausted after quota x this many slots without being full."""
    workers: SupplyWorkers = SupplyWorkers(min=1, max=4)
    concurrency: Positive = 16
    """Slots in flight per worker."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.order)) < len(self.order):
            raise ValueError(f"order {list(self.order)} names a supplier twice")
        return self

    @model_validator(mode="after")
    def _agreeing(self) -> Self:
        if self.dissent and self.dissent >= self.solves:
            raise ValueError(f"dissent {self.dissent} lets any label pass; give less than solves, {self.solves}")
        return self

    @model_validator(mode="after")
    def _band(self) -> Self:
        if self.pass_rate[0] >= self.pass_rate[1]:
            raise ValueError(f"pass_rate {list(self.pass_rate)} is no band: give [low, high] with low < high")
        return self
