"""Two toy worlds that isolate retrieval: whether targeting beats chance, and whether paraphrases are found.

Both follow the design of a support set whose samples carry their skill in words: a skill has six words, of which a text
uses three beside three words that all texts share.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from dpe_ray.supply.retrieve.dense import DenseRanker, index_vectors
from dpe_ray.supply.retrieve.filling import Desk, Query, round_robin
from dpe_ray.supply.retrieve.hybrid import HybridRanker
from dpe_ray.supply.retrieve.ranking import Ranker
from dpe_ray.supply.retrieve.sparse import index_words

FILLERS = ["visual", "question", "image"]
SKILL_WORDS = 6
STEPS = 400
RATE = 1.0


@dataclass(frozen=True)
class Size:
    """How large the world of `targeted_against_random` is."""

    skills: int = 12
    weak: int = 3
    """The first skills: the student saw `few` samples of each, of the others `many`."""
    features: int = 24
    few: int = 8
    many: int = 200
    support: int = 6_000
    validation: int = 300
    test: int = 4_000
    budget: int = 600
    noise: float = 0.1
    """Share of texts, of samples and of errors, that name a random skill."""


@dataclass(frozen=True)
class Items:
    """Samples: features of one skill, and which side of that skill's plane they lie on."""

    skills: NDArray[np.int64]
    x: NDArray[np.float64]
    y: NDArray[np.bool_]

    def __getitem__(self, chosen: NDArray[np.integer]) -> "Items":
        return Items(self.skills[chosen], self.x[chosen], self.y[chosen])


class World:
    """Linear rules, one per skill, and texts that name skills."""

    def __init__(self, seed: int, size: Size) -> None:
        self.rng, self.size = np.random.default_rng(seed), size
        self._planes = self.rng.normal(size=(size.skills, size.features))

    def items(self, skills: NDArray[np.int64]) -> Items:
        """One item per entry."""
        x = self.rng.normal(size=(len(skills), self.size.features))
        return Items(skills, x, (self._planes[skills] * x).sum(axis=1) > 0)

    def target(self, count: int) -> Items:
        """Items of the task: three of four need a weak skill."""
        size, weak = self.size, self.rng.random(count) < 0.75
        strong = self.rng.integers(size.weak, size.skills, count)
        return self.items(np.where(weak, self.rng.integers(0, size.weak, count), strong))

    def text(self, skill: int) -> str:
        """The skill in words, or at times another's."""
        named = self.rng.integers(self.size.skills) if self.rng.random() < self.size.noise else skill
        return describe(named, self.rng.permutation(SKILL_WORDS)[:3])


def describe(skill: int, words: Sequence[int]) -> str:
    """Words of a skill, and those that all texts share."""
    return " ".join([*(f"skill{skill}word{word}" for word in words), *FILLERS])


def train(weights: NDArray[np.float64], items: Items) -> NDArray[np.float64]:
    """Logistic regression per skill, by gradient descent from `weights` [skills, features]."""
    weights = weights.copy()
    counts = np.maximum(1, np.bincount(items.skills, minlength=len(weights)))[:, None]
    one_hot = (items.skills == np.arange(len(weights))[:, None]).astype(float)
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-(weights[items.skills] * items.x).sum(axis=1)))
        weights -= RATE * (one_hot @ ((p - items.y)[:, None] * items.x)) / counts
    return weights


def right(weights: NDArray[np.float64], items: Items) -> NDArray[np.bool_]:
    """Per item, whether the student is right."""
    return ((weights[items.skills] * items.x).sum(axis=1) > 0) == items.y


def targeted_against_random(seed: int, size: Size) -> dict[str, float]:
    """Accuracies, 0-1, before and after training on retrieved, on misdiagnosed or on random samples of one number.

    Misdiagnosed: as many queries, each for a skill drawn by lot.
    """
    world = World(seed, size)
    seen = np.repeat(np.arange(size.skills), np.where(np.arange(size.skills) < size.weak, size.few, size.many))
    student = train(np.zeros((size.skills, size.features)), world.items(seen))
    validation, test = world.target(size.validation), world.target(size.test)
    strong = world.items(world.rng.integers(size.weak, size.skills, size.test))
    support = world.items(world.rng.integers(0, size.skills, size.support))
    documents = {f"{i:05d}": world.text(skill) for i, skill in enumerate(support.skills)}
    queries = [world.text(skill) for skill in validation.skills[~right(student, validation)]]
    by_lot = [world.text(skill) for skill in world.rng.integers(0, size.skills, len(queries))]
    index = index_words(documents)
    arms = {
        "random": world.rng.permutation(size.support)[: size.budget],
        "misdiagnosed": retrieve(index, by_lot, size.budget),
        "targeted": retrieve(index, queries, size.budget),
    }
    row = {"errors": float(len(queries)), "before": right(student, test).mean()}
    for name, taken in arms.items():
        tuned = train(student, support[taken])
        row[name] = right(tuned, test).mean()
        row[f"{name}_strong"] = right(tuned, strong).mean()
        row[f"{name}_weak_share"] = (support.skills[taken] < size.weak).mean()
    return {name: float(value) for name, value in row.items()}


def retrieve(ranker: Ranker[str], queries: Sequence[str], budget: int) -> NDArray[np.int64]:
    """Numbers of the documents that a round-robin over the errors takes."""
    distinct = sorted(set(queries))
    found = dict(zip(distinct, asyncio.run(ranker.rank(distinct, budget)), strict=True))
    taken: list[int] = []
    desk = Desk(
        [Query("task", text) for text in queries],
        [found[text] for text in queries],
        {"task": budget},
        lambda document, cell: taken.append(int(document)) is None,
    )
    round_robin(desk)
    return np.array(taken)


class SynonymEmbedder:
    """Vectors by class of synonyms: all words of a skill are alike, and each text is off by chance."""

    def __init__(self, noise: float, size: int = 32) -> None:
        self._noise, self._size = noise, size

    async def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """As `Embedder.embed`."""
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> tuple[float, ...]:
        skills = [word.partition("word")[0] for word in text.split() if word not in FILLERS]
        total = np.sum([self._unit(skill) for skill in skills], axis=0) / len(skills) + self._noise * self._unit(text)
        return tuple((total / np.linalg.norm(total)).tolist())

    def _unit(self, name: str) -> NDArray[np.float64]:
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
        vector = rng.normal(size=self._size)
        return vector / np.linalg.norm(vector)


def paraphrase(
    seed: int, shared: float = 0.0, noise: float = 1.0, documents: int = 1_200, top: int = 100
) -> dict[str, float]:
    """Share of the first `top` documents that show the skill asked for, per ranker; chance is 1/12.

    Documents use three of a skill's six words, queries the other three; a share of the documents uses the query's.
    """
    rng = np.random.default_rng(seed)
    skills = rng.integers(0, 12, documents)
    halves = np.where(rng.random(documents) < shared, 3, 0)
    texts = {
        f"{i:05d}": describe(skill, half + rng.integers(0, 3, 3))
        for i, (skill, half) in enumerate(zip(skills, halves, strict=True))
    }
    return asyncio.run(_precisions(texts, skills, noise, top))


async def _precisions(texts: dict[str, str], skills: NDArray[np.int64], noise: float, top: int) -> dict[str, float]:
    embedder = SynonymEmbedder(noise)
    words, meaning = index_words(texts), DenseRanker(await index_vectors(texts, embedder), embedder)
    rankers: dict[str, Ranker[str]] = {"bm25": words, "dense": meaning, "hybrid": HybridRanker([words, meaning])}
    queries = [describe(skill, range(3, SKILL_WORDS)) for skill in range(12)]
    return {
        name: fmean(
            float(skills[int(document)] == skill)
            for skill, hits in enumerate(await ranker.rank(queries, top))
            for document, _ in hits
        )
        for name, ranker in rankers.items()
    }
