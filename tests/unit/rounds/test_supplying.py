from dataclasses import replace

import pytest
from builders import make_image_ref, make_sample

from dpe_ray.config import RetrieveConfig, TrainConfig
from dpe_ray.errors import ModelUnavailable
from dpe_ray.models.call_budget import Calls
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.rounds.machine import Machine
from dpe_ray.rounds.record import stopped_record
from dpe_ray.rounds.retrieving import filling, make_ranker, require_skills
from dpe_ray.rounds.sets import round_probe
from dpe_ray.rounds.stages import make_stages
from dpe_ray.rounds.supplying import by_example
from dpe_ray.supply.quota_book import Quotas
from dpe_ray.supply.retrieve.filling import Desk, Query
from dpe_ray.supply.retrieve.shards import PartsHere
from dpe_ray.types import CellPlan, DataPlan, Need, PolicyRef

DOCUMENTS = {"a": "follow a road to its end", "b": "trace the street until it stops", "c": "compare heights of bars"}


class Meaning:
    """An embedder that knows two things to speak of: ways and heights."""

    async def embed(self, texts):
        return [(0.0, 1.0) if "height" in text else (1.0, 0.0) for text in texts]


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize(("index", "found"), [("bm25", {"a"}), ("dense", {"a", "b"}), ("hybrid", {"a", "b"})])
async def test_words_find_words_and_vectors_find_what_is_meant_in_one_part_or_several(index, found, shards):
    settings = RetrieveConfig(index=index, embedder="e5", shards=shards)
    ranker = await make_ranker(DOCUMENTS, None if index == "bm25" else Meaning(), settings, PartsHere())
    (hits,) = await ranker.rank(["walk along a road"], 10)
    assert {id_ for id_, _ in hits} == found
    assert hits[0][0] == "a"


@pytest.mark.parametrize(("name", "taken"), [("round_robin", 4), ("fixed_k", 2), ("score_pool", 4)])
def test_fixed_k_alone_leaves_a_cell_short_that_has_more_to_take(name, taken):
    queries = [Query("map/follow_roads", "road"), Query("map/follow_roads", "street")]
    rankings = [[(f"{query}{place}", 1.0) for place in range(5)] for query in "ab"]
    desk = Desk(queries, rankings, {"map/follow_roads": 4}, lambda document, cell: True)
    filling(RetrieveConfig(filling=name, k=1))(desk)
    assert desk.taken.total() == taken


def test_a_support_set_that_was_hardly_labelled_is_an_outage():
    labelled, bare = make_sample("a?", skills=("read",)), make_sample("b?")
    with pytest.raises(ModelUnavailable, match="1 of 3 samples got skills"):
        require_skills([labelled, bare, bare])
    assert require_skills([labelled, bare]) is None
    assert require_skills([]) is None


@pytest.mark.parametrize(("method", "taught"), [("grpo", set()), ("sft", {"map/b"}), ("chain", {"map/b"})])
def test_only_training_on_completions_teaches_by_example_and_only_what_lacks_knowledge(method, taught):
    needs = {"a": Need.ELICITABLE, "b": Need.KNOWLEDGE, "c": Need.PERCEPTION}
    plan = DataPlan(tuple(CellPlan("map", skill, 0.3, 1, "", need=need) for skill, need in needs.items()), 3)
    assert by_example(plan, TrainConfig(method=method)) == taught


async def test_samples_that_bring_their_skills_are_not_asked_about(wired, models):
    own = make_sample("What stands there?", skills=("walk the dog",))
    _, _, _, stages = wired("error_driven", support=(own,))
    plan = DataPlan((CellPlan("map", "walk_the_dog", 1.0, 1, "", ("walk a dog",)),), 1)
    supplied = await stages.supply(PolicyRef("base"), plan, 1)
    assert "lister" not in models.asked
    assert [s.id for s in supplied.samples] == [own.id]


async def test_labels_are_those_of_the_base_in_whichever_round_they_are_needed(wired, models):
    served = []
    say = models.lister
    models.lister = lambda text, request: served.append(models.version) or say(text, request)
    _, run, _, stages = wired("error_driven", "roles.skill_analyst=student")
    run.round(1).save_json("record", stopped_record(1, PolicyRef("base"), "a round that retrieved nothing"))
    run.round(1).save_samples(())
    plan = DataPlan((CellPlan("map", "follow_roads", 1.0, 1, "", ("follow a road",)),), 1)
    supplied = await stages.supply(PolicyRef("base", "adapter", 1), plan, 2)
    assert len(supplied.samples) == 1
    assert {version for _, stage, version in models.doors if stage == "support"} == {0} == set(served)
    assert models.version == 1


def cells(*quotas: tuple[str, int]) -> DataPlan:
    plans = tuple(CellPlan(category, "a_skill", 0.5, quota, "", ("nothing like it",)) for category, quota in quotas)
    return DataPlan(plans, sum(quota for _, quota in quotas))


async def retrieved(wired, *overrides, plan=None, index=1, **sets):
    config, _, read, stages = wired("error_driven", *overrides, **sets)
    supplied = await stages.supply(PolicyRef("base"), plan or cells(("map", 4), ("chart", 4)), index)
    return config, read, supplied


async def test_by_questions_a_cell_gets_what_is_asked_like_the_probe_of_its_category_and_nothing_is_labelled(
    wired, models
):
    support = tuple(make_sample(f"How many in {name} here?", image=make_image_ref(name)) for name in ("chart", "map"))
    _, _, supplied = await retrieved(wired, "supply.retrieve.by=questions", plan=cells(("map", 1)), support=support)
    assert [sample.question for sample in supplied.samples] == ["How many in map here?"]
    assert "lister" not in models.asked


async def test_by_chance_the_diagnosis_decides_nothing_and_a_seed_draws_the_same(wired, models):
    _, _, supplied = await retrieved(wired, "supply.retrieve.by=chance", plan=cells(("map", 12)))
    assert {sample.category for sample in supplied.samples} == {"map", "chart"}
    _, _, again = await retrieved(wired, "supply.retrieve.by=chance", plan=cells(("map", 12)))
    _, _, other = await retrieved(wired, "supply.retrieve.by=chance", "seed=1", plan=cells(("map", 12)))
    assert [s.id for s in again.samples] == [s.id for s in supplied.samples] != [s.id for s in other.samples]
    assert not models.asked


async def test_from_the_probe_a_round_trains_on_the_items_it_was_diagnosed_by_and_on_no_other(wired, models):
    keys = "supply.retrieve={source: probe, by: chance}", "support=null", "plan.replay=0"
    for index in (1, 2):
        _, run, _, _ = wired("error_driven", *keys, support=())
        run.round(1).save_samples(())
        config, sets, supplied = await retrieved(wired, *keys, plan=cells(("map", 60)), index=index, support=())
        assert {s.id for s in supplied.samples} == {s.id for s in round_probe(config, sets, index)}
        assert not {s.id for s in supplied.samples} & {s.id for s in sets.gate}


async def test_a_probe_item_whose_image_stands_in_the_gate_suite_is_never_trained_on(wired, models):
    config, run, sets, _ = wired("error_driven", "supply.retrieve={source: probe, by: chance}", support=())
    shared = replace(sets.gate[0], images=sets.probe[0].images)
    machine = Machine(LocalMapper(), models.door, None, Quotas, Calls(), models, models.publish)
    stages = make_stages(config, run, replace(sets, gate=(shared,)), machine)
    drawn = round_probe(config, sets, 1)
    supplied = await stages.supply(PolicyRef("base"), cells(("map", 60)), 1)
    refused = {r.sample.id for r in supplied.rejections if r.gate == "forbidden" and r.sample}
    assert refused == {s.id for s in drawn if s.images[0].sha256 == shared.images[0].sha256}
    assert len(supplied.samples) == len(drawn) - len(refused)
