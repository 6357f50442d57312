import pytest
from builders import make_sample

from dpe_ray.config import RetrieveConfig
from dpe_ray.errors import ModelUnavailable
from dpe_ray.rounds.record import stopped_record
from dpe_ray.rounds.supplying import filling, make_ranker, require_skills
from dpe_ray.supply.retrieve.filling import Desk, Query
from dpe_ray.types import CellPlan, DataPlan, PolicyRef

DOCUMENTS = {"a": "follow a road to its end", "b": "trace the street until it stops", "c": "compare heights of bars"}


class Meaning:
    """An embedder that knows two things to speak of: ways and heights."""

    async def embed(self, texts):
        return [(0.0, 1.0) if "height" in text else (1.0, 0.0) for text in texts]


@pytest.mark.parametrize(("index", "found"), [("bm25", {"a"}), ("dense", {"a", "b"}), ("hybrid", {"a", "b"})])
async def test_words_find_words_and_vectors_find_what_is_meant(index, found):
    settings = RetrieveConfig(index=index, embedder="e5")
    ranker = await make_ranker(DOCUMENTS, None if index == "bm25" else Meaning(), settings)
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
