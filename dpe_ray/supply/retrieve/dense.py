"""Rankings by meaning: exact cosine of embedding vectors, no approximate index."""

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dpe_ray.ports import Embedder
from dpe_ray.supply.retrieve.ranking import Hit, Ranker, best

Vector = NDArray[np.float32]
"""[D], of length 1."""
Vectors = tuple[list[str], NDArray[np.float32]]
"""[N] ids and their [N, D] unit vectors."""

TEXTS_PER_CALL = 256
CALLS_IN_FLIGHT = 8
QUERIES_PER_BLOCK = 16
"""Cosines held at once: this many times the documents, in 32 bits."""
ROWS_PER_BLOCK = 65_536
ROUNDING = 1e-5
"""More than the sum of a 32-bit product is ever wrong by, for unit vectors of up to 4,096 numbers."""


class DenseIndex:
    """Vectors of a set, or of one part of it: 4 x N x D bytes (1.5 M documents of 384 numbers: 2.3 GB).

    Products in 32 bits find the candidates, products in 64 bits rank them: the order does not depend on what shared
    a matrix product, so parts of a set give the same ranking as the whole.
    """

    def __init__(self, ids: Sequence[str], vectors: NDArray[np.float32], least: float = 0.0) -> None:
        """Take [N] ids and their [N, D] unit vectors; documents with a cosine of `least` or below do not match.

        Raises ValueError when a vector is not of length 1.
        """
        if len(vectors) and not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
            raise ValueError("the vectors of a dense index must have length 1")
        order = sorted(range(len(ids)), key=ids.__getitem__)
        self._ids = [ids[i] for i in order]
        self._vectors = np.asarray(vectors, dtype=np.float32)[order]
        self._least = least

    async def rank(self, queries: Sequence[Vector], limit: int) -> list[list[Hit]]:
        """As `Ranker.rank`; a block of queries is one matrix product with all documents."""
        return await asyncio.to_thread(self._rank, np.asarray(queries, dtype=np.float32), limit)

    def _rank(self, queries: NDArray[np.float32], limit: int) -> list[list[Hit]]:
        if not self._ids:
            return [[] for _ in queries]
        rankings = []
        for start in range(0, len(queries), QUERIES_PER_BLOCK):
            block = queries[start : start + QUERIES_PER_BLOCK]
            for query, rough in zip(block, block @ self._vectors.T, strict=True):
                rankings.append(self._rank_exactly(query, rough, limit))
        return rankings

    def _rank_exactly(self, query: NDArray[np.float32], rough: NDArray[np.float32], limit: int) -> list[Hit]:
        edge = np.partition(rough, -limit)[-limit] if limit < len(rough) else -1.0
        places = np.flatnonzero(rough >= max(edge, self._least) - ROUNDING)
        exact = np.empty(len(places))
        for start in range(0, len(places), ROWS_PER_BLOCK):
            rows = self._vectors[places[start : start + ROWS_PER_BLOCK]]
            exact[start : start + ROWS_PER_BLOCK] = rows.astype(np.float64) @ query.astype(np.float64)
        matching = exact > self._least
        return best(self._ids, places[matching], exact[matching], limit)


class DenseRanker:
    """Ranks texts over vectors, held by one index or by parts of it."""

    def __init__(self, index: Ranker[Vector], embedder: Embedder) -> None:
        self._index, self._embedder = index, embedder

    async def rank(self, queries: Sequence[str], limit: int) -> list[list[Hit]]:
        """As `Ranker.rank`. Raises what the embedder raises: an outage is no empty ranking."""
        return await self._index.rank(await _embed(queries, self._embedder), limit) if queries else []


async def index_vectors(documents: Mapping[str, str], embedder: Embedder, least: float = 0.0) -> DenseIndex:
    """Embed texts by id and index them. Raises what the embedder raises."""
    return DenseIndex(*await embed_texts(documents, embedder), least)


async def embed_texts(documents: Mapping[str, str], embedder: Embedder) -> Vectors:
    """Embed texts by id, each distinct text once. Raises what the embedder raises."""
    texts = sorted(set(documents.values()))
    vectors = dict(zip(texts, await _embed(texts, embedder), strict=True))
    return list(documents), np.array([vectors[text] for text in documents.values()], dtype=np.float32)


async def _embed(texts: Sequence[str], embedder: Embedder) -> list[NDArray[np.float32]]:
    free = asyncio.Semaphore(CALLS_IN_FLIGHT)

    async def call(part: Sequence[str]) -> NDArray[np.float32]:
        async with free:
            return np.array(await embedder.embed(part), dtype=np.float32)

    parts = [texts[start : start + TEXTS_PER_CALL] for start in range(0, len(texts), TEXTS_PER_CALL)]
    calls = [asyncio.create_task(call(part)) for part in parts]
    try:
        return [vector for vectors in await asyncio.gather(*calls) for vector in vectors]
    finally:
        for unfinished in calls:  # after an outage nobody wants the rest
            unfinished.cancel()
