from collections import Counter
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.supply.retrieve.filling import Desk, Query, fixed_k, round_robin, score_pool

CELLS = ["chart/read_axis", "map/direction"]


def ranking(*ids):
    """Falling scores in steps of one from 10."""
    return [(id_, 10.0 - i) for i, id_ in enumerate(ids)]


def fill(filling, rankings, wanted, cells=None, refused=()):
    """(document, cell) in the order in which they were taken, and the desk."""
    taken = []

    def admit(document, cell):
        if document in refused:
            return False
        taken.append((document, cell))
        return True

    queries = [Query(cell, f"query {i}") for i, cell in enumerate(cells or [CELLS[0]] * len(rankings))]
    desk = Desk(queries, rankings, wanted, admit)
    filling(desk)
    assert desk.taken == Counter(cell for _, cell in taken)
    return taken, desk


def documents(taken):
    return [document for document, _ in taken]


def test_round_robin_gives_every_query_its_best_document_that_nobody_took():
    rankings = [ranking("a", "b", "c"), ranking("a", "d", "e"), ranking("b", "a", "f")]
    taken, _ = fill(round_robin, rankings, {CELLS[0]: 5})
    assert documents(taken) == ["a", "d", "b", "c", "e"]


def test_a_query_with_few_documents_leaves_its_turns_to_the_others():
    taken, desk = fill(round_robin, [ranking("a"), ranking("b", "c", "d")], {CELLS[0]: 4})
    assert documents(taken) == ["a", "b", "c", "d"]
    assert desk.dry == {0}


def test_fixed_k_takes_no_more_than_the_first_k_of_each_query():
    taken, desk = fill(partial(fixed_k, k=2), [ranking("a", "b", "c"), ranking("a", "b", "d")], {CELLS[0]: 9})
    assert (documents(taken), desk.dry) == (["a", "b"], set())


def test_fixed_k_notes_a_ranking_that_ends_before_k():
    assert fill(partial(fixed_k, k=3), [ranking("a", "b")], {CELLS[0]: 9})[1].dry == {0}


def test_score_pool_takes_the_best_scores_of_all_queries():
    rankings = [[("a", 9.0), ("b", 1.0)], [("c", 8.0), ("a", 7.5), ("d", 7.0)], [("e", 7.0)]]
    taken, _ = fill(score_pool, rankings, {CELLS[0]: 4})
    assert documents(taken) == ["a", "c", "d", "e"]


@pytest.mark.parametrize("filling", [round_robin, partial(fixed_k, k=9), score_pool])
def test_a_document_counts_for_the_cell_whose_query_took_it(filling):
    rankings = [ranking("a", "b", "c"), ranking("a", "b", "c")]
    taken, _ = fill(filling, rankings, {CELLS[0]: 1, CELLS[1]: 1}, cells=CELLS)
    assert sorted(taken) == [("a", CELLS[0]), ("b", CELLS[1])]


@pytest.mark.parametrize("filling", [round_robin, partial(fixed_k, k=9), score_pool])
def test_what_is_refused_is_proposed_once_and_costs_no_place(filling):
    rankings = [ranking("bad", "a", "b"), ranking("bad", "c", "d")]
    taken, _ = fill(filling, rankings, {CELLS[0]: 4}, refused={"bad"})
    assert sorted(documents(taken)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("filling", [round_robin, partial(fixed_k, k=9), score_pool])
def test_a_cell_that_wants_nothing_gets_nothing(filling):
    taken, desk = fill(filling, [ranking("a"), ranking("a")], {CELLS[1]: 5}, cells=CELLS)
    assert (taken, desk.dry) == ([("a", CELLS[1])], {1})


IDS = [f"d{i:02d}" for i in range(25)]
many_rankings = st.lists(st.permutations(IDS).map(lambda ids: ids[:12]), min_size=1, max_size=6).map(
    lambda lists: [ranking(*ids) for ids in lists]
)
fillings = st.sampled_from([round_robin, partial(fixed_k, k=5), score_pool])


@given(fillings, many_rankings, st.tuples(st.integers(0, 12), st.integers(0, 12)))
def test_budgets_are_never_exceeded_and_no_document_is_taken_twice(filling, rankings, budgets):
    wanted, cells = dict(zip(CELLS, budgets, strict=True)), [CELLS[i % 2] for i in range(len(rankings))]
    taken, desk = fill(filling, rankings, wanted, cells)
    assert len(set(documents(taken))) == len(taken)
    assert all(desk.taken[cell] <= wanted[cell] for cell in CELLS)


@given(st.sampled_from([round_robin, score_pool]), many_rankings, st.integers(1, 25))
def test_a_budget_is_filled_exactly_while_documents_are_left(filling, rankings, budget):
    taken, desk = fill(filling, rankings, {CELLS[0]: budget})
    there = {document for hits in rankings for document, _ in hits}
    assert len(taken) == min(budget, len(there))
    assert len(taken) == budget or desk.dry == set(range(len(rankings)))


@given(
    fillings,
    many_rankings,
    st.tuples(st.integers(0, 12), st.integers(0, 12)),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
    st.sets(st.sampled_from(IDS)),
)
def test_a_smaller_budget_is_nested_in_a_larger_one(filling, rankings, budgets, more, refused):
    cells = [CELLS[i % 2] for i in range(len(rankings))]
    small = dict(zip(CELLS, budgets, strict=True))
    large = {cell: small[cell] + extra for cell, extra in zip(CELLS, more, strict=True)}
    few, _ = fill(filling, rankings, small, cells, refused)
    many, _ = fill(filling, rankings, large, cells, refused)
    assert set(documents(few)) <= set(documents(many))
