"""A round whose cells are filled by programs first, then by agents that search a captioned pool for each cell."""

import json
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from command_line import command_line

from dpe_ray.rounds.store import RunFolder


def captioned(world, folder):
    """The pool with the words of its category as each picture's caption, as people would have written them."""
    lines = map(json.loads, Path(world["truth"]).read_text().splitlines())
    words = {line["image"]: line["scene"]["category"].replace("_", " ") for line in lines}
    rows = [row for file in Path(world["pool"]).glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    folder.mkdir()
    captions = [row | {"caption": words[sha256(row["image"]).hexdigest()]} for row in rows]
    pq.write_table(pa.Table.from_pylist(captions), folder / "pictures.parquet")
    return str(folder)


@pytest.fixture(scope="module")
def finished(small_yaml, world, tmp_path_factory):
    """(run folder, finished process)"""
    folder = tmp_path_factory.mktemp("suppliers")
    tree = yaml.safe_load(small_yaml.read_text()) | {"rounds": 1, "final": []}
    tree["pool"]["source"] = captioned(world, folder / "pool")
    tree["models"]["teacher"]["options"] = {"error_rate": 0.0}
    tree["supply"] |= {
        "order": ["construct", "annotate"],
        "construct": {"planner": False},
        "annotate": {"start": "cell"},
    }
    tree["tools"] = {"search": {"source": "pool", "candidates": 3}}
    tree["train"]["steps"] = 1
    (folder / "job.yaml").write_text(yaml.safe_dump(tree))
    run = folder / "run"
    return RunFolder(run), command_line("run", folder / "job.yaml", "--run-dir", run)


def test_the_round_completes(finished):
    run, process = finished
    assert process.returncode == 0, process.stdout[-1000:] + process.stderr[-2000:]
    assert run.summary()["status"] == "complete"


def test_programs_fill_first_and_agents_the_rest(finished):
    run, _ = finished
    (entry,) = run.summary()["rounds"]
    assert list(entry["suppliers"]) == ["construct", "annotate"]
    assert entry["proposed"] == sum(part["proposed"] for part in entry["suppliers"].values())
    assert entry["accepted"] == sum(part["accepted"] for part in entry["suppliers"].values())
    assert entry["suppliers"]["construct"]["accepted"] > 0
    assert entry["suppliers"]["construct"]["calls"] == 0, "no planner was asked"
    assert entry["suppliers"]["annotate"]["accepted"] > 0


def test_drawn_samples_keep_their_recipe_and_searched_ones_their_query(finished):
    run, _ = finished
    samples = run.round(1).load_samples()
    drawn = [sample for sample in samples if sample.provenance.source == "constructed"]
    written = [sample for sample in samples if sample.provenance.source == "generated"]
    assert len(drawn) + len(written) == len(samples)
    assert all(json.loads(sample.provenance.recipe)["program"] for sample in drawn)
    assert {image.query for sample in written for image in sample.images} <= {
        sample.category.replace("_", " ") for sample in written
    }


def test_what_was_found_is_what_was_shown(finished):
    run, _ = finished
    ledger = map(json.loads, (run.path / "ledger.jsonl").read_text().splitlines())
    shown = {found["sha256"] for line in ledger if line["role"] == "image_search" for found in line["results"]}
    written = [sample for sample in run.round(1).load_samples() if sample.provenance.source == "generated"]
    assert {image.sha256 for sample in written for image in sample.images} <= shown
