"""Two rounds through Ray Data, Serve and Train, from the command line, with a teacher that errs and drops out."""

import json
import os
import re
from functools import cache
from pathlib import Path

import pyarrow.parquet as pq
from command_line import TOKEN, command_line

SCORE = {"n", "macro", "by_category", "by_suite", "not_judged"}


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def journal(folder):
    return [json.loads(line) for file in folder.glob("journal/*/*.jsonl") for line in file.read_text().splitlines()]


def test_the_run_completes_with_one_line_per_stage_and_no_traceback(finished):
    _, process = finished
    assert process.returncode == 0, process.stderr[-2000:]
    assert "Traceback" not in process.stdout + process.stderr
    for stage in ("diagnosis", "plan", "supply", "training", "before", "after", "comparison"):
        assert f"round 1  {stage}" in process.stdout
    assert "final suites" in process.stdout


def test_summary_holds_the_contract(finished):
    folder, _ = finished
    result = summary(folder)
    assert result["schema"] == 1
    assert result["status"] == "complete"
    assert set(result["base"]) == set(result["final"]) == SCORE
    assert all(len(entry["gate"]["by_suite"]) == 1 for entry in result["rounds"] if entry["gate"])
    assert len(result["rounds"]) == 2
    for entry in result["rounds"]:
        assert entry["decision"] in ("accept", "rollback", "stop")
        assert entry["proposed"] == entry["accepted"] + sum(entry["rejected"].values())
        assert entry["proposed"] == entry["suppliers"]["annotate"]["proposed"]
        assert entry["accepted"] == entry["suppliers"]["annotate"]["accepted"]
        assert sum(entry["quota"].values()) == 24
        assert entry["train"]["steps"] == 2


def test_the_tables_agree_with_the_summary(finished):
    folder, _ = finished
    for entry in summary(folder)["rounds"]:
        place = folder / "rounds" / f"{entry['index']:02d}"
        samples = pq.read_table(place / "samples.parquet").to_pylist()
        rejected = pq.read_table(place / "rejected.parquet").to_pylist()
        assert len(samples) == entry["accepted"]
        assert len({s["id"] for s in samples}) == len(samples)
        assert len(rejected) == sum(entry["rejected"].values())
        filled = {}
        for sample in samples:
            cell = sample["provenance"]["cell"]
            filled[cell] = filled.get(cell, 0) + 1
        assert all(n <= entry["quota"][cell] for cell, n in filled.items())
        verdicts = pq.read_table(place / "verdicts.parquet").to_pylist()
        assert {v["set"] for v in verdicts} == {"probe", "before", "after"}


@cache
def down_in(folder, stage):
    """(role, item) of every call of a stage that no attempt got an answer to."""
    lines = [json.loads(line) for file in folder.glob(f"journal/{stage}/*.jsonl") for line in file.open()]
    answered = {line["key"] for line in lines if "error" not in line}
    return {(line["role"], line["item"]) for line in lines if line.get("outage") and line["key"] not in answered}


def test_outages_are_counted(finished):
    folder, _ = finished
    assert any(line.get("outage") for line in journal(folder)), "an outage rate of 0.1 must show"
    assert any(entry["rejected"].get("outage") for entry in summary(folder)["rounds"])
    for place in (folder / "rounds").iterdir():
        down = down_in(folder, f"{place.name}-diagnosis")
        diagnosis = json.loads((place / "diagnosis.json").read_text())
        failures = [f for cell in diagnosis["cells"] for f in cell["failures"]]
        silent = [f for f in failures if ("judge", f["sample_id"]) in down]
        assert all(f["attribution"]["error_type"] == "not_judged" for f in silent)


def test_no_verdict_on_an_item_whose_model_was_down_is_wrong(finished):
    folder, _ = finished
    stages = {"probe": "{}-diagnosis", "before": "{}-gate", "after": "{}-gate", "base": "final", "final": "final"}
    checked = 0
    for file in folder.glob("**/verdicts.parquet"):
        for row in pq.read_table(file).to_pylist():
            down = down_in(folder, stages[row["set"]].format(file.parent.name))
            if ("student", row["item"]) in down:
                assert row["verdict"] == "not_judged"
            if ("judge", row["item"]) in down and row["grader"].startswith("judge@"):
                assert row["verdict"] == "not_judged"
            if row["verdict"] == "not_judged":
                assert {("student", row["item"]), ("judge", row["item"])} & down
            checked += 1
    assert checked > 500


def test_rounds_and_final_suites_cost_what_the_ledger_holds(finished):
    folder, _ = finished
    result = summary(folder)
    parts = [*(entry["cost"] for entry in result["rounds"]), result["final_cost"]]
    ledger = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    paid = sum(line["paid"] for line in ledger)
    assert sum(part["calls"] for part in parts) == result["cost"]["calls"] == paid
    assert all(part["calls"] > 0 for part in parts)


def test_the_ledger_has_one_line_per_call_with_its_attempts(finished):
    folder, _ = finished
    ledger = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    finished_calls = {
        (file.parent.name, json.loads(line)["key"])
        for file in folder.glob("journal/*/*.jsonl")
        for line in file.read_text().splitlines()
    }
    assert len(ledger) == len({(line["stage"], line["key"]) for line in ledger}) == len(finished_calls)
    assert all(line["attempts"] >= 1 for line in ledger)
    assert any(line["attempts"] >= 2 for line in ledger if line.get("outage"))


def test_the_kept_policy_loads_as_a_plain_checkpoint(finished):
    from dpe_ray.models.policy import load_policy
    from dpe_ray.rounds.record import RoundRecord
    from dpe_ray.rounds.store import RunFolder

    folder, _ = finished
    trained = RunFolder(folder).round(1).load_json("training", dict)["policy"]
    record = RunFolder(folder).round(1).load_json("record", RoundRecord)
    assert record.start.version == 0
    from dpe_ray.types import PolicyRef

    loaded = load_policy(PolicyRef(**trained))
    assert sum(p.numel() for p in loaded.model.parameters()) > 1_000_000


def test_the_report_is_one_file_with_pictures_and_nothing_from_outside(finished):
    folder, _ = finished
    html = (folder / "report.html").read_text()
    assert html.count("data:image/png;base64,") > 20
    assert "<script" not in html
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*|url\((?!["']?(?:data:|#))[^)]*""", html) == []


def test_the_same_command_again_asks_nothing_and_says_the_same(finished, small_yaml):
    folder, _ = finished
    before, calls = summary(folder), len(journal(folder))
    again = command_line("run", small_yaml, "--run-dir", folder)
    assert again.returncode == 0, again.stderr[-2000:]
    assert summary(folder) == before
    assert len(journal(folder)) == calls


def test_show_and_report_read_the_finished_run(finished):
    folder, _ = finished
    shown = command_line("show", folder, "--json")
    assert json.loads(shown.stdout) == summary(folder)
    (folder / "report.html").unlink()
    assert command_line("report", folder).returncode == 0
    assert (folder / "report.html").exists()


def test_no_secret_is_written_into_the_run(finished):
    folder, process = finished
    files = [p for p in Path(folder).rglob("*") if p.is_file()]
    assert len(files) > 20
    token = os.environ.get("RAY_AUTH_TOKEN", TOKEN)  # other tests of this process may have set one
    assert not [p for p in files if token.encode() in p.read_bytes()]
    assert token not in process.stdout + process.stderr
