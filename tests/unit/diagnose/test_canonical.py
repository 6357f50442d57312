import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.diagnose.canonical import canonicalise
from dpe_ray.taxonomy import UNSPECIFIED, Taxonomy, merge_names, stems

ANGLES = {"count objects": 0, "count_objects": 0, "tally things": 10, "read labels": 90, "find the way": 180}


class FakeEmbedder:
    """Places every name at an angle; counts the calls."""

    def __init__(self) -> None:
        self.calls = 0

    def open(self) -> "FakeEmbedder":
        return self

    async def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        self.calls += 1
        angles = [math.radians(ANGLES[text]) for text in texts]
        return [(math.cos(angle), math.sin(angle)) for angle in angles]


def test_stems_bring_paraphrases_of_form_together() -> None:
    assert stems("reading the values of an axis") == stems("read_axis_value")
    assert stems("count_objects") != stems("count_colours")
    assert stems("of_the") == {"of", "the"}


def test_paraphrases_merge_into_the_most_frequent_name() -> None:
    counts = {"counting_object": 1, "count_objects": 3, "count_the_objects": 2, "read_labels": 1}
    assert merge_names(counts, ()) == {
        "count_objects": "count_objects",
        "count_the_objects": "count_objects",
        "counting_object": "count_objects",
        "read_labels": "read_labels",
    }


def test_a_known_skill_wins_over_any_frequency_and_known_ones_never_merge() -> None:
    known = ("count_object", "counting_objects")
    merged = merge_names({"count_objects": 9, "counting_objects": 1, "count_object": 1}, known)
    assert merged == {"count_objects": "count_object", "counting_objects": "counting_objects"} | {
        "count_object": "count_object"
    }


def test_unspecified_is_no_skill() -> None:
    assert merge_names({UNSPECIFIED: 3, "read": 1}, ()) == {UNSPECIFIED: UNSPECIFIED, "read": "read"}


@given(st.permutations(["count_objects", "counting_objects", "counts_object", "read_label", "labels_read"]))
def test_merging_does_not_depend_on_the_order(names: list[str]) -> None:
    counts = {name: len(name) % 3 for name in names}
    assert merge_names(counts, ()) == merge_names(dict(sorted(counts.items())), ())


@pytest.mark.parametrize(("threshold", "merges"), [(0.97, True), (0.999, False)])
async def test_with_an_embedder_near_names_merge_too_in_one_call(threshold: float, merges: bool) -> None:
    embedder = FakeEmbedder()
    named = {"map": ["count_objects", "count_objects", "tally things", "find the way"], "artistic": ["read labels"]}
    names, tree = await canonicalise(named, Taxonomy({}), embedder, threshold)
    assert embedder.calls == 1
    assert names["map"]["tally things"] == ("count_objects" if merges else "tally things")
    assert names["artistic"] == {"read labels": "read labels"}
    assert set(tree.skills) == {"map", "artistic"}


async def test_new_skills_grow_into_their_category_behind_the_known_ones() -> None:
    taxonomy = Taxonomy({"map": ("find_north",), "medical": ()})
    names, tree = await canonicalise({"map": ["finding the north", "z", "a", UNSPECIFIED]}, taxonomy)
    assert names["map"]["finding the north"] == "find_north"
    assert tree.skills == {"map": ("find_north", "a", "z"), "medical": ()}
