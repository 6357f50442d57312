import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.supply.retrieve.bm25 import total
from dpe_ray.supply.retrieve.dense import DenseIndex
from dpe_ray.supply.retrieve.shards import ShardedIndex, split
from dpe_ray.supply.retrieve.sparse import SparseIndex

WORDS = ["chart", "map", "colour", "count", "angle", "legend"]


def shard_words(documents, shards):
    parts = [SparseIndex(part) for part in split(documents, shards)]
    whole = total(part.statistics() for part in parts)
    for part in parts:
        part.weigh(whole)
    return ShardedIndex(parts)


@given(
    st.lists(st.lists(st.sampled_from(WORDS), max_size=5), min_size=1, max_size=20),
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), min_size=1, max_size=3),
    st.integers(1, 5),
    st.integers(1, 25),
)
async def test_parts_rank_as_the_whole_does(texts, queries, shards, limit):
    documents = {f"{i:03d}": " ".join(words) for i, words in enumerate(texts)}
    asked = [" ".join(words) for words in queries]
    assert await shard_words(documents, shards).rank(asked, limit) == await SparseIndex(documents).rank(asked, limit)


async def test_without_the_statistics_of_the_whole_the_parts_rank_differently():
    documents = {"a": "count", "b": "map", "c": "count map", "d": "axis", "e": "map", "f": "legend axis"}
    alone = ShardedIndex([SparseIndex(part) for part in split(documents, 2)])
    assert await alone.rank(["count map"], 9) != await SparseIndex(documents).rank(["count map"], 9)


@pytest.mark.parametrize("shards", [1, 3, 7])
async def test_vectors_in_parts_rank_as_the_whole_does(shards):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 16)).astype(np.float32)
    vectors[50:90] = vectors[50]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"{i:03d}" for i in range(200)]
    parts = [DenseIndex(ids[i::shards], vectors[i::shards]) for i in range(shards)]
    queries = vectors[[3, 60, 120]]
    assert await ShardedIndex(parts).rank(queries, 25) == await DenseIndex(ids, vectors).rank(queries, 25)


@given(st.integers(0, 30), st.integers(1, 6))
def test_a_split_loses_and_repeats_nothing(count, shards):
    documents = {str(i): f"text {i}" for i in range(count)}
    parts = split(documents, shards)
    assert {id_: text for part in parts for id_, text in part.items()} == documents
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
