import math
from functools import partial

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from dpe_ray.supply.retrieve.bm25 import OkapiIndex, WordStatistics, total
from dpe_ray.supply.retrieve.sparse import SMALL, SparseIndex, index_words
from dpe_ray.supply.retrieve.words import tokenise

WORDS = ["chart", "map", "colour", "count", "angle", "legend", "axis", "text"]
texts = partial(st.lists, st.sampled_from(WORDS))
documents = st.lists(texts(max_size=6), min_size=1, max_size=12)
queries = texts(min_size=1, max_size=5)


def by_id(texts):
    return {f"{i:03d}": " ".join(words) for i, words in enumerate(texts)}


def reference(documents, query):
    """(id, score) of every document that shares a word, by an untouched rank-bm25."""
    ids = sorted(documents)
    okapi = BM25Okapi([tokenise(documents[id_]) for id_ in ids])
    words = tokenise(query)
    scores = zip(ids, okapi.get_scores(words), strict=True)
    return {id_: score for id_, score in scores if set(words) & set(tokenise(documents[id_]))}, okapi


async def both(documents, query, limit=1000):
    (small,) = await OkapiIndex(documents).rank([query], limit)
    (large,) = await SparseIndex(documents).rank([query], limit)
    return small, large


async def test_the_score_is_the_one_computed_by_hand():
    held = {"a": "count bars", "b": "count count angles of lines", "c": "map", "d": "legend", "e": "axis"}
    # "count" stands in 2 of 5 documents of 2, 4, 1, 1 and 1 words: mean 9 / 5
    idf = math.log(3.5) - math.log(2.5)
    a = idf * 1 * 2.5 / (1 + 1.5 * (0.25 + 0.75 * 2 / 1.8))
    b = idf * 2 * 2.5 / (2 + 1.5 * (0.25 + 0.75 * 4 / 1.8))
    for ranking in await both(held, "counting"):
        assert dict(ranking) == pytest.approx({"a": a, "b": b}, abs=1e-6)


@given(documents, queries)
async def test_both_indexes_give_rank_bm25s_scores(texts, words):
    held, query = by_id(texts), " ".join(words)
    assume(any(texts))
    expected, okapi = reference(held, query)
    assume(okapi.average_idf > 0)
    for ranking in await both(held, query):
        assert dict(ranking) == pytest.approx(expected, abs=1e-6)


@given(st.lists(texts(max_size=6), min_size=10, max_size=10), queries, st.integers(1, 12))
async def test_both_rank_alike_with_a_word_in_seven_of_ten_documents(texts, words, limit):
    held = by_id([[*words_of, *(["common"] if i < 7 else [])] for i, words_of in enumerate(texts)])
    small, large = await both(held, " ".join([*words, "common"]), limit)
    assert small == large
    assert len(small) == min(limit, len((await both(held, " ".join([*words, "common"])))[0]))


@given(documents, queries, st.integers(1, 12))
async def test_a_smaller_limit_gives_the_beginning_of_a_larger_one(texts, words, limit):
    query = " ".join(words)
    for few, all_ in zip(await both(by_id(texts), query, limit), await both(by_id(texts), query), strict=True):
        assert few == all_[:limit]
        assert all_ == sorted(all_, key=lambda hit: (-hit[1], hit[0]))


async def test_equal_documents_are_ranked_by_id():
    held = dict.fromkeys(["b", "c", "a"], "count bars") | {"d": "map", "e": "legend", "f": "axis", "g": "text"}
    for ranking in await both(held, "bars"):
        assert [id_ for id_, _ in ranking] == ["a", "b", "c"]


async def test_in_a_set_of_one_skill_more_shared_words_still_rank_higher():
    held = {"a": "count bars", "b": "count bars", "c": "count"}
    for ranking in await both(held, "count bars"):
        assert [id_ for id_, _ in ranking] == ["a", "b", "c"]
        assert ranking[0][1] > ranking[2][1] > 0


async def test_a_document_is_found_by_a_word_that_weighs_nothing():
    assert [[id_ for id_, _ in ranking] for ranking in await both({"a": "map", "b": "axis"}, "map")] == [["a"], ["a"]]


@pytest.mark.parametrize("held", [{}, {"a": "", "b": "of the"}])
async def test_a_set_without_words_answers_with_nothing(held):
    assert await both(held, "count") == ([], [])


async def test_an_unknown_word_finds_nothing():
    assert await both({"a": "count", "b": "map", "c": "axis"}, "zebra of the") == ([], [])


@given(documents, st.integers(0, 12))
def test_statistics_of_parts_add_up(texts, cut):
    held = by_id(texts)
    parts = [dict(list(held.items())[:cut]), dict(list(held.items())[cut:])]
    whole = SparseIndex(held).statistics()
    assert total(SparseIndex(part).statistics() for part in parts) == WordStatistics(
        len(texts), sum(map(len, texts)), whole.containing
    )


def test_the_size_of_the_set_chooses_the_index():
    few = {str(i): "count" for i in range(SMALL)}
    assert isinstance(index_words(few), OkapiIndex)
    assert isinstance(index_words(few | {"one more": "count"}), SparseIndex)
