"""BM25 over a large set: every score is computed when the set is indexed, bm25s adds them up per query."""

import asyncio
from array import array
from collections.abc import Mapping, Sequence

import bm25s
import numpy as np
from scipy.sparse import coo_matrix

from dpe_ray.supply.retrieve.bm25 import K1, B, OkapiIndex, WordStatistics
from dpe_ray.supply.retrieve.ranking import Hit, Ranker, best
from dpe_ray.supply.retrieve.words import tokenise

SMALL = 5_000
"""Documents up to which rank-bm25 answers within milliseconds."""


class SparseIndex:
    """A set, or one part of a set.

    A part is indexed in two passes: `statistics` of all parts are added up, then each is told the `total` by `weigh`.
    Memory: 16 bytes per distinct word of a document, and the ids.
    """

    def __init__(self, documents: Mapping[str, str]) -> None:
        self._ids = sorted(documents)
        self._vocabulary: dict[str, int] = {}
        columns = array("i")
        self._lengths = np.zeros(len(self._ids))
        for place, id_ in enumerate(self._ids):
            words = tokenise(documents[id_])
            self._lengths[place] = len(words)
            columns.extend([self._vocabulary.setdefault(word, len(self._vocabulary)) for word in words])
        rows = np.repeat(np.arange(len(self._ids), dtype=np.int32), self._lengths.astype(np.int64))
        shape = len(self._ids), len(self._vocabulary)
        # adds up the repetitions of a word: [documents, words] of counts
        self._counts = coo_matrix((np.ones(len(columns), dtype=np.int32), (rows, columns)), shape).tocsc()
        self._scores = bm25s.BM25(k1=K1, b=B, dtype="float64")
        self.weigh(self.statistics())

    def statistics(self) -> WordStatistics:
        """Statistics of this part alone."""
        containing = np.diff(self._counts.indptr).tolist()
        return WordStatistics(
            len(self._ids), int(self._lengths.sum()), dict(zip(self._vocabulary, containing, strict=True))
        )

    def weigh(self, whole: WordStatistics) -> None:
        """Score by the statistics of the whole set."""
        idf = whole.idf()
        counts, places, starts = self._counts.data, self._counts.indices, self._counts.indptr
        weights = np.repeat([idf[word] for word in self._vocabulary], np.diff(starts))
        lengths = K1 * (1 - B + B * self._lengths / whole.mean_length)
        data = weights * (counts * (K1 + 1) / (counts + lengths[places]))
        # what its own `index` would leave behind, but with our weights; its idf knows no floor and no other parts
        self._scores.scores = {"data": data, "indices": places, "indptr": starts, "num_docs": len(self._ids)}
        self._scores.vocab_dict = self._vocabulary
        self._scores.nonoccurrence_array = None

    async def rank(self, queries: Sequence[str], limit: int) -> list[list[Hit]]:
        """As `Ranker.rank`."""
        return await asyncio.to_thread(lambda: [self._rank(tokenise(query), limit) for query in queries])

    def _rank(self, words: list[str], limit: int) -> list[Hit]:
        columns = self._scores.get_tokens_ids(words)
        if not columns:
            return []
        scores = self._scores.get_scores_from_ids(columns)
        found = np.zeros(len(self._ids), dtype=bool)
        for column in set(columns):
            found[self._counts.indices[self._counts.indptr[column] : self._counts.indptr[column + 1]]] = True
        places = np.flatnonzero(found)
        return best(self._ids, places, scores[places], limit)


def index_words(documents: Mapping[str, str]) -> Ranker[str]:
    """Index texts by id: with rank-bm25 up to `SMALL` of them, else with bm25s. Both rank alike."""
    return OkapiIndex(documents) if len(documents) <= SMALL else SparseIndex(documents)
