import pytest

from dpe_ray.supply.retrieve.hybrid import HybridRanker, fuse


class Scripted:
    """Gives the same ranking to every query."""

    def __init__(self, ranking):
        self.ranking = ranking

    async def rank(self, queries, limit):
        return [self.ranking[:limit] for _ in queries]


def falling(*ids):
    return [(id_, 10.0 - i) for i, id_ in enumerate(ids)]


def test_scores_are_reciprocal_ranks_with_k_sixty():
    fused = dict(fuse([falling("a", "b"), falling("b", "c")]))
    assert fused == pytest.approx({"a": 1 / 61, "b": 1 / 62 + 1 / 61, "c": 1 / 62}, abs=1e-8)


def test_a_document_that_both_rank_comes_before_the_best_of_one():
    assert [id_ for id_, _ in fuse([falling("a", "b"), falling("c", "b")])] == ["b", "a", "c"]


def test_equal_documents_share_their_mean_rank():
    equal = [(f"{i}", 1.0) for i in range(9)]
    assert dict(fuse([equal])) == pytest.approx({id_: 1 / 65 for id_, _ in equal}, abs=1e-8)


def test_a_ranking_that_tells_nothing_apart_does_not_disturb_the_other():
    equal = [(f"x{i:03d}", 1.0) for i in range(200)]
    sharp = falling(*[f"y{i}" for i in range(9)])
    assert [id_ for id_, _ in fuse([equal, sharp])][:9] == [id_ for id_, _ in sharp]


async def test_a_larger_limit_only_adds_to_a_smaller_one():
    left, right = falling("a", "b", "c", "d", "e"), falling("e", "d", "c", "b", "a")
    hybrid = HybridRanker([Scripted(left), Scripted(right)], depth=3)
    (all_,) = await hybrid.rank(["query"], 10)
    assert {id_ for id_, _ in all_} == {"a", "b", "c", "d", "e"}
    for limit in range(1, 6):
        assert await hybrid.rank(["query"], limit) == [all_[:limit]]


async def test_every_query_gets_its_ranking_however_many_there_are():
    answers = await HybridRanker([Scripted(falling("a", "b"))]).rank([f"query {i}" for i in range(70)], 1)
    assert [[id_ for id_, _ in ranking] for ranking in answers] == [["a"]] * 70
