import hashlib
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pyarrow.parquet as pq
import pytest

from dpe_ray.micro import sources
from dpe_ray.micro.world import CATEGORIES, Scene, skills_for, solve

SHARE = 0.1
SETS = tuple(sources.ITEMS_PER_CATEGORY)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return sources.materialise(tmp_path_factory.mktemp("world"), SHARE)


def rows_of(path):
    return pq.read_table(path).to_pylist()


def scenes_of(world):
    lines = (world / "truth.jsonl").read_text(encoding="utf-8").splitlines()
    return {line["image"]: Scene.from_json(json.dumps(line["scene"])) for line in map(json.loads, lines)}


def sha(row):
    return hashlib.sha256(row["image"]).hexdigest()


def test_sets_are_equal_byte_for_byte_in_every_folder(world, tmp_path):
    other = sources.materialise(tmp_path, SHARE)
    files = [path.relative_to(world) for path in sorted(world.rglob("*")) if path.is_file()]
    assert len(files) == len(SETS) + sources.POOL_FILES + 1
    for name in files:
        assert (world / name).read_bytes() == (other / name).read_bytes(), name


def test_no_image_stands_in_two_sets_or_twice_in_one(world):
    shas = [sha(row) for name in (*(f"{name}.parquet" for name in SETS), "pool") for row in rows_of(world / name)]
    assert len(set(shas)) == len(shas)
    assert set(shas) == set(scenes_of(world))


@pytest.mark.parametrize("name", SETS)
def test_labelled_sets_are_balanced_and_right(world, name):
    rows, scenes = rows_of(world / f"{name}.parquet"), scenes_of(world)
    wanted = round(sources.ITEMS_PER_CATEGORY[name] * SHARE)
    assert Counter(row["category"] for row in rows) == dict.fromkeys(CATEGORIES, wanted)
    skills = Counter()
    for row in rows:
        scene = scenes[sha(row)]
        skill, item = solve(scene, row["question"], tuple(row["options"]))
        assert (item.answer, item.kind, scene.category) == (row["answer"], row["kind"], row["category"])
        skills[skill] += 1
    for category in CATEGORIES:
        counts = [skills[skill] for skill in skills_for(category)]
        assert max(counts) - min(counts) <= 1
    assert "skill" not in rows[0]


def test_letters_of_choices_are_spread(world):
    rows = [row for name in SETS for row in rows_of(world / f"{name}.parquet") if row["kind"] == "choice"]
    letters = Counter(row["answer"] for row in rows)
    assert set(letters) == set("ABCD")
    assert max(letters.values()) < len(rows) / 2


def test_the_pool_holds_every_category_and_level_without_labels(world):
    rows, scenes = rows_of(world / "pool"), scenes_of(world)
    assert set(rows[0]) == {"image", "name"}
    assert len({row["name"] for row in rows}) == len(rows)
    seen = Counter((scenes[sha(row)].category, scenes[sha(row)].level) for row in rows)
    assert seen == {(category, level): 12 for category in CATEGORIES for level in sources.LEVELS}


def test_the_whole_pool_has_three_thousand_images():
    assert sources.POOL_PER_CATEGORY * len(CATEGORIES) >= 3000


def test_pages_of_a_set_are_written_with_its_own_digits(world):
    scenes = scenes_of(world)
    for name, split in (("probe", "heldout"), ("final", "heldout"), ("support", "pool")):
        pages = [row for row in rows_of(world / f"{name}.parquet") if row["category"] == "text_dense"]
        assert {scenes[sha(row)].facts["split"] for row in pages} == {split}


def test_sources_point_into_one_world_whatever_the_seed(world):
    folder = world.parent
    for seed in (0, Random(1).randrange(100)):
        assert sources.pool(folder, seed) == world / "pool"
        assert sources.truth(folder, seed) == world / "truth.jsonl"
        for name in SETS:
            assert getattr(sources, name)(folder, seed) == world / f"{name}.parquet"


def test_racing_processes_end_with_one_world(tmp_path):
    with ThreadPoolExecutor(3) as threads:
        made = list(threads.map(lambda _: sources.materialise(tmp_path, 0.02), range(3)))
    assert set(made) == {tmp_path / f"micro-world-{sources.VERSION}"}
    assert [path.name for path in tmp_path.iterdir()] == [made[0].name]


def test_an_unwritable_folder_is_no_world(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        sources.materialise(tmp_path / "file")
