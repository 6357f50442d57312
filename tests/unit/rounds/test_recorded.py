"""Diagnosis, plan and report from a log; with a teacher's endpoint also mistakes and missing skills."""

import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpe_ray.config import RunConfig, load_config
from dpe_ray.diagnose.responses.reading import read_responses
from dpe_ray.errors import BudgetExceeded, ConfigError, ModelUnavailable, PoolError, StoreError
from dpe_ray.plan.stage import make_plan
from dpe_ray.rounds.loop import Loop
from dpe_ray.rounds.recorded import diagnose_recorded
from dpe_ray.rounds.recorded_errors import turns
from dpe_ray.rounds.recorded_report import render_recorded
from dpe_ray.rounds.store import StageFolder
from dpe_ray.types import DataPlan, Diagnosis, PolicyRef

FIXTURES = Path(__file__).parents[1] / "diagnose" / "responses" / "fixtures"
KEY = "TEACHER_KEY_OF_A_TEST"
WRONG = "1. I look at the bars.\n2. The lowest bar is labelled December.\n3. So it is December.\nanswer: B"
SKILL = {"name": "match_bar_to_label", "skill": "match each bar to its axis label", "weight": 1.0}


class Teacher:
    """An endpoint that reads rationales: the step about December speaks for the wrong option."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str] = set()

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        text = str(body["messages"][0]["content"])
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        if "You are the reader" in text:
            letters = {words: letter for letter, words in re.findall(r"\((\w)\) (\w+)", text)}
            said = letters["December" if "labelled December" in text else "May"]
            other = "B" if said == "A" else "A"
            tokens = [{"token": said, "logprob": -0.1, "bytes": None}, {"token": other, "logprob": -3.0, "bytes": None}]
            choice["logprobs"] = {"content": [tokens[0] | {"top_logprobs": tokens}]}
        else:
            said = json.dumps({"skills": [SKILL], "evidence": "labelled December", "error_kind": "perception"})
        choice["message"] = {"role": "assistant", "content": said}
        return {"id": "1", "object": "chat.completion", "created": 0, "model": "teacher", "choices": [choice]}


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Teacher, str]]:
    """The teacher and its base_url."""
    monkeypatch.setenv(KEY, "secret")
    played = Teacher()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            played.asked.append(body)
            played.keys.add(str(self.headers["Authorization"]))
            content = json.dumps(played.reply(body) if played.status == 200 else {}).encode()
            self.send_response(played.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield played, f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        thread.join()


def log_of(folder: Path, *responses: str, options: tuple[str, ...] = ("May", "December")) -> Path:
    row = {"question": "Which month sold least?", "options": options, "answer": "A", "category": "chart"}
    file = folder / "log.jsonl"
    file.write_text("".join(json.dumps(row | {"response": response}) + "\n" for response in responses))
    return file


def config_file(folder: Path, url: str, **changes: Any) -> Path:
    teacher = {"base_url": url, "api_key_env": KEY, "retries": 0}
    tree = {
        "name": "recorded",
        "models": {"student": {"source": "s", "engine": "transformers"}, "teacher": teacher},
        "pool": {"source": "p"},
        "probe": {"source": "b"},
        "decision": {"suite": "g"},
        "diagnose": {"method": "answer_switch"},
        "plan": {"method": "error_count", "total": 40, "floor": 0.0},
    }
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(tree | changes))
    return file


def config_of(folder: Path, url: str = "http://127.0.0.1:9/v1", **changes: Any) -> RunConfig:
    return load_config(config_file(folder, url, **changes))


def test_plan_and_diagnosis_are_those_of_a_run_and_stand_where_a_round_looks_for_them(tmp_path: Path) -> None:
    config = config_of(tmp_path, diagnose={"method": "categories"})
    recorded = diagnose_recorded(log_of(tmp_path, "A", "B", "B"), tmp_path / "out", config)
    folder = StageFolder(tmp_path / "out")
    assert set(folder.seconds()) == {"diagnosis", "plan"}
    assert folder.load_json("diagnosis", Diagnosis) == recorded.diagnosis
    assert folder.load_json("plan", DataPlan) == recorded.plan
    assert recorded.plan.quotas == make_plan(recorded.diagnosis, config.plan).quotas == {"chart/unspecified": 40}
    assert recorded.plan.cells[0].instruction == "Exercise unspecified: 1 of 3 answers were right."


def test_the_report_shows_cells_plan_and_the_logs_own_scores_and_nothing_as_it_came(tmp_path: Path) -> None:
    name = "inspect_ai_0.3.285_mini_choice.eval"
    recorded = diagnose_recorded(FIXTURES / name, tmp_path / "out")
    assert (recorded.scores[""].n, recorded.scores[""].opened, recorded.scores[""].opened_right) == (7, 3, 1)
    assert recorded.scores[""].accuracy == pytest.approx(3 / 7)
    page = (tmp_path / "out" / "report.html").read_text()
    for told in ("perception/unspecified", "Plan", "42.9", "1 of 3", "1,024 samples", "tiered", "undecidable: free"):
        assert told in page
    attack = log_of(tmp_path, "<script>alert(1)</script>", options=("<img src=x>", "b"))
    diagnose_recorded(attack, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "<img" not in page


def test_wrong_rationales_are_located_and_their_missing_skills_weigh_the_plan(
    tmp_path: Path, teacher: tuple[Teacher, str]
) -> None:
    played, url = teacher
    again = WRONG.replace("look at", "see")
    file = log_of(tmp_path, "answer: A", WRONG, WRONG, again, "answer: B", "Hard to say.")
    recorded = diagnose_recorded(file, tmp_path / "out", config_of(tmp_path, url))
    located = [(error.location.status, error.location.step) for error in recorded.diagnosis.errors]
    # equal answers once; the answer without steps and the one without an answer cost no call
    assert located == [("found", 2), ("found", 2), ("unparsable", None), ("unparsable", None)]
    assert recorded.plan.quotas == {"chart/match_bar_to_label": 40, "chart/unspecified": 0}
    assert recorded.mistakes().startswith(
        "4 wrong answers: 2 without steps or an answer, in 2 a wrong step was located"
    )
    assert played.keys == {"Bearer secret"}
    assert all(isinstance(m["content"], str) for body in played.asked for m in body["messages"])  # no picture
    assert "secret" not in "".join(f.read_text() for f in (tmp_path / "out").rglob("*") if f.is_file())


def test_missing_skills_are_counted_as_a_runs_report_counts_them(tmp_path: Path, teacher: tuple[Teacher, str]) -> None:
    recorded = diagnose_recorded(log_of(tmp_path, WRONG), tmp_path / "out", config_of(tmp_path, teacher[1]))
    (error,) = recorded.diagnosis.errors
    two = tuple(replace(error.skills[0], name=name, weight=weight) for name, weight in (("one", 0.6), ("two", 0.4)))
    html = render_recorded(
        replace(recorded, diagnosis=replace(recorded.diagnosis, errors=(replace(error, skills=two),)))
    )
    for name in ("one", "two"):
        assert f'<td>chart/{name}</td><td class="n">1</td></tr>' in html
    assert "errs here" in html


def test_what_was_asked_once_is_not_asked_again(tmp_path: Path, teacher: tuple[Teacher, str]) -> None:
    played, url = teacher
    first = diagnose_recorded(log_of(tmp_path, WRONG), tmp_path / "out", config_of(tmp_path, url))
    asked = len(played.asked)
    second = diagnose_recorded(log_of(tmp_path, WRONG), tmp_path / "out", config_of(tmp_path, url))
    assert second == first
    assert (asked, len(played.asked)) == (9, 9)  # two orders after 0 to 3 steps, one analysis


def test_a_teacher_that_is_out_ends_it_and_nothing_is_half_written(
    tmp_path: Path, teacher: tuple[Teacher, str]
) -> None:
    played, url = teacher
    played.status = 503
    with pytest.raises(ModelUnavailable, match=r"no answer about mistakes for 1 of 1 items .* check roles\.reader"):
        diagnose_recorded(log_of(tmp_path, WRONG), tmp_path / "out", config_of(tmp_path, url))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"journal"}


def test_the_budget_and_the_key_hold_here_too(
    tmp_path: Path, teacher: tuple[Teacher, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = log_of(tmp_path, WRONG), tmp_path / "out"
    with pytest.raises(BudgetExceeded, match=r"budget\.teacher_calls"):
        diagnose_recorded(file, out, config_of(tmp_path, teacher[1], budget={"teacher_calls": 4}))
    monkeypatch.delenv(KEY)
    with pytest.raises(ConfigError, match=f"{KEY} is empty"):
        diagnose_recorded(file, out, config_of(tmp_path, teacher[1]))
    assert len(teacher[0].asked) <= 4
    assert not (out / "diagnosis.json").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"diagnose": {"method": "categories"}}, "diagnose.method: categories asks nothing of rationales"),
        (
            {
                "models": {
                    "student": {"source": "s", "engine": "transformers"},
                    "teacher": {"source": "t", "engine": "vllm"},
                }
            },
            "models.teacher has no base_url, and no model is served here",
        ),
    ],
)
def test_why_nobody_is_asked_is_told(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    recorded = diagnose_recorded(log_of(tmp_path, WRONG), tmp_path / "out", config_of(tmp_path, **changes))
    assert told in recorded.mistakes()
    assert recorded.diagnosis.errors == ()


def test_answers_to_one_question_go_in_different_turns(tmp_path: Path) -> None:
    recorded = log_of(tmp_path, WRONG, WRONG, WRONG.replace("look", "peer"), "answer: A", "answer: B")
    dealt = turns([response.graded() for response in read_responses(recorded)])
    assert [[one.text for one in turn] for turn in dealt] == [[WRONG], [WRONG.replace("look", "peer")], ["answer: B"]]


def test_a_log_of_outages_alone_and_a_round_that_went_on_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="all 2 answers are outages"):
        diagnose_recorded(log_of(tmp_path, *["Failed to obtain answer via API."] * 2), tmp_path / "out")
    StageFolder(tmp_path / "out").note({"diagnosis": 1.0, "plan": 0.1, "supply": 5.0})
    with pytest.raises(StoreError, match=r"is a run's round \(supply is done\)"):
        diagnose_recorded(log_of(tmp_path, "A"), tmp_path / "out")


def test_a_round_that_was_cut_off_within_its_supply_keeps_its_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "rounds" / "01"
    diagnose_recorded(log_of(tmp_path, "A", "B"), out)
    plan = (out / "plan.json").read_bytes()
    (tmp_path / "journal" / "01-supply").mkdir(parents=True)
    monkeypatch.chdir(out)
    for named in (out, Path(".")):
        with pytest.raises(StoreError, match=r"is a run's round \(supply has begun\)"):
            diagnose_recorded(log_of(tmp_path, "B", "B"), named)
    assert (out / "plan.json").read_bytes() == plan
    diagnose_recorded(log_of(tmp_path, "B", "B"), tmp_path / "rounds" / "02")


async def test_a_run_that_finds_it_as_its_first_round_begins_with_the_supply(wired: Any, models: Any) -> None:
    config, run, sets, stages = wired("error_driven", "rounds=1", "diagnose.method=categories")
    log = run.path.parent / "log.jsonl"
    row = {"question": "How many?", "answer": "3", "category": "map", "skills": ["follow_roads"]}
    log.write_text("\n".join(json.dumps(row | {"response": f"answer: {said}"}) for said in (3, 4)))
    recorded = diagnose_recorded(log, run.path / "rounds" / "01", config)
    await Loop(config, run, stages, sets.suites(), lambda line: None, sets.suite_of).run(PolicyRef("base"))
    (entry,) = run.summary()["rounds"]
    assert entry["quota"] == recorded.plan.quotas == {"map/follow_roads": 12}
    assert not any(stage == "01-diagnosis" for _, stage, _ in models.doors)
    assert entry["proposed"] > 0


def test_neither_ray_nor_torch_is_imported(tmp_path: Path, teacher: tuple[Teacher, str]) -> None:
    code = (
        "import atexit, sys\n"
        "loaded = lambda: print(*sorted({'ray', 'torch', 'transformers', 'vllm'} & set(sys.modules)), 'end')\n"
        "atexit.register(loaded)\n"
        "from dpe_ray.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    file, config, out = log_of(tmp_path, WRONG), config_file(tmp_path, teacher[1]), tmp_path / "out"
    arguments = ["diagnose", "--responses", str(file), "--config", str(config), "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "end"), done.stderr
    assert teacher[0].asked
    assert (out / "report.html").exists()
