"""What a run reads before it asks anything."""

import json
import logging

import pytest
from builders import write_png

from dpe_ray.config import parse_config
from dpe_ray.errors import PoolError
from dpe_ray.rounds.sets import TOLD, load_sets
from dpe_ray.rounds.store import RunFolder


@pytest.fixture
def config(tmp_path):
    """A config over three labelled sets of one picture each."""
    for number, name in enumerate(("pool", "support", "probe", "gate")):
        write_png(tmp_path / name / "a.png", number)
        write_rows(tmp_path, name, {})
    tree = {
        "name": "x",
        "models": {"student": {"source": "none", "engine": "transformers"}, "teacher": {"base_url": "http://h/v1"}},
        "pool": {"source": str(tmp_path / "pool")},
        "support": {"source": str(tmp_path / "support/set.jsonl")},
        "probe": {"source": str(tmp_path / "probe/set.jsonl")},
        "decision": {"suite": str(tmp_path / "gate/set.jsonl")},
    }
    return parse_config(tree, "test")


def write_rows(folder, name, *rows):
    known = {"image": "a.png", "question": f"What is in {name}?", "answer": "red"}
    (folder / name / "set.jsonl").write_text("".join(json.dumps(known | row) + "\n" for row in rows))


def load(config, tmp_path):
    return load_sets(config, RunFolder.open(tmp_path / "run", config.model_dump(mode="json")))


def test_bad_rows_of_the_support_set_are_left_out_counted_and_told(config, tmp_path, caplog):
    bad = [{"image": f"gone{i}.png", "id": f"q{i}"} for i in range(TOLD + 2)]
    write_rows(tmp_path, "support", {}, *bad)
    with caplog.at_level(logging.WARNING):
        sets = load(config, tmp_path)
    assert (len(sets.support), sets.support_unusable) == (1, TOLD + 2)
    assert f"{TOLD + 2} rows of it cannot be used" in sets.told()
    assert "set.jsonl line 2 (id q0): image " in caplog.messages[0]
    assert caplog.messages[-1] == "support: 2 more rows cannot be used"


@pytest.mark.parametrize("name", ["probe", "gate"])
def test_a_bad_row_of_a_set_that_is_measured_on_ends_the_run_with_id_and_path(config, tmp_path, name):
    write_rows(tmp_path, name, {}, {"image": "gone.png", "id": "q7"})
    with pytest.raises(PoolError, match=rf"{name}/set\.jsonl line 2 \(id q7\): image .*gone\.png"):
        load(config, tmp_path)


def test_sets_that_share_an_image_are_told_with_a_question_of_each_and_what_to_do(config, tmp_path):
    write_png(tmp_path / "support/a.png", 2)
    with pytest.raises(PoolError, match=r"'What is in support\?' \(support\) .*: leave these rows out of support, or"):
        load(config, tmp_path)


def test_a_run_that_only_retrieves_reads_no_pool(config, tmp_path):
    tree = config.model_dump(mode="json", exclude={"pool"})
    tree["supply"]["order"] = ["retrieve"]
    sets = load(parse_config(tree, "test"), tmp_path)
    assert sets.pool is None
    assert sets.told().startswith("no pool, support 1")
