import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.errors import ModelUnavailable
from dpe_ray.supply.retrieve import dense
from dpe_ray.supply.retrieve.dense import DenseIndex, DenseRanker, index_vectors


def unit(rows):
    vectors = np.asarray(rows, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ids_of(count):
    return [f"{i:04d}" for i in range(count)]


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 50))
async def test_the_ranking_is_that_of_exact_cosines(seed, count, limit):
    rng = np.random.default_rng(seed)
    vectors, query = unit(rng.normal(size=(count, 6))), unit(rng.normal(size=(1, 6)))
    cosines = vectors.astype(np.float64) @ query[0].astype(np.float64)
    expected = sorted(((i, c) for i, c in zip(ids_of(count), cosines, strict=True) if c > 0), key=lambda hit: -hit[1])
    (ranking,) = await DenseIndex(ids_of(count), vectors).rank(query, limit)
    assert [id_ for id_, _ in ranking] == [id_ for id_, _ in expected[:limit]]
    assert [score for _, score in ranking] == pytest.approx([score for _, score in expected[:limit]], abs=1e-8)


async def test_equal_vectors_are_ranked_by_id_wherever_they_stand_in_the_matrix():
    rng = np.random.default_rng(0)
    twin = unit(rng.normal(size=(1, 384)))[0]
    vectors = unit(rng.normal(size=(1003, 384)))
    twins = [2, 500, 1002]
    vectors[twins] = twin
    ids = ids_of(1003)[::-1]
    (ranking,) = await DenseIndex(ids, vectors).rank([twin], 3)
    assert [id_ for id_, _ in ranking] == sorted(ids[i] for i in twins)
    assert len({score for _, score in ranking}) == 1


async def test_queries_share_blocks_without_changing_each_other(monkeypatch):
    monkeypatch.setattr(dense, "QUERIES_PER_BLOCK", 3)
    monkeypatch.setattr(dense, "ROWS_PER_BLOCK", 7)
    rng = np.random.default_rng(1)
    index = DenseIndex(ids_of(50), unit(rng.normal(size=(50, 5))))
    queries = unit(rng.normal(size=(8, 5)))
    assert await index.rank(queries, 20) == [(await index.rank([query], 20))[0] for query in queries]


async def test_what_is_not_alike_enough_does_not_match():
    index = DenseIndex(["a", "b", "c"], unit([[1, 0], [1, 1], [0, 1]]), least=0.5)
    assert [id_ for id_, _ in (await index.rank(unit([[1, 0]]), 5))[0]] == ["a", "b"]


def test_vectors_that_are_not_of_length_one_are_refused():
    with pytest.raises(ValueError, match="length 1"):
        DenseIndex(["a"], np.array([[3.0, 4.0]], dtype=np.float32))


async def test_each_distinct_text_is_embedded_once(embedder):
    index = await index_vectors({"a": "count bars", "b": "read map", "c": "count bars"}, embedder)
    assert embedder.asked == [["count bars", "read map"]]
    ranking = (await DenseRanker(index, embedder).rank(["count bars"], 2))[0]
    assert ranking == [("a", pytest.approx(1)), ("c", pytest.approx(1))]


async def test_no_documents_and_no_queries_are_answered(embedder):
    ranker = DenseRanker(await index_vectors({}, embedder), embedder)
    assert await ranker.rank(["count bars"], 3) == [[]]
    assert await ranker.rank([], 3) == []


async def test_an_outage_is_raised_and_stops_the_other_calls(monkeypatch):
    monkeypatch.setattr(dense, "TEXTS_PER_CALL", 1)
    asked = []

    class Down:
        async def embed(self, texts):
            asked.append(texts)
            await asyncio.sleep(0)
            raise ModelUnavailable("models.embedder: did not answer")

    with pytest.raises(ModelUnavailable):
        await index_vectors({str(i): f"text {i}" for i in range(100)}, Down())
    await asyncio.sleep(0.05)
    assert len(asked) <= 2 * dense.CALLS_IN_FLIGHT
