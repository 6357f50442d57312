"""The report is one calm, closed file: nothing of a model or an image reaches the reader as it came."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from dpe_ray.errors import PoolError
from dpe_ray.rounds.report import SAMPLES_SHOWN, ReportData, RoundReport, macro_interval, render, spread
from dpe_ray.types import (
    Answer,
    AnswerKind,
    Attribution,
    CategoryChange,
    CellDiagnosis,
    CellPlan,
    Comparison,
    DataPlan,
    Diagnosis,
    Difficulty,
    ErrorRecord,
    Failure,
    ImageRef,
    MissingSkill,
    MistakeLocation,
    Need,
    PolicyRef,
    Provenance,
    Rejection,
    Sample,
    Score,
    SuiteScore,
    TrainResult,
)

ATTACK = "<script>alert(1)</script><img src=https://evil.example/x onerror=alert(2)>"
CATEGORIES = {"below": (0.13, 0.97), "largest": (0.6, 0.92), "count": (0.9, 0.88)}
VOID = {"meta", "img", "line", "circle", "rect", "polyline", "br"}


class Page(HTMLParser):
    """Collects tags, attributes and tags left open."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def png(colour="navy"):
    out = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(out, "png")
    return out.getvalue()


def score(accuracy, n=60):
    return Score(n, accuracy, max(accuracy - 0.1, 0.0), min(accuracy + 0.1, 1.0))


def suite(column):
    by_category = {name: score(pair[column]) for name, pair in CATEGORIES.items()}
    macro = sum(s.accuracy for s in by_category.values()) / len(by_category)
    return SuiteScore(180, macro, by_category, {"final": score(macro, 180)})


def as_json(suite_score):
    return {
        "n": suite_score.n,
        "macro": suite_score.macro,
        "by_category": {name: vars(s) for name, s in suite_score.by_category.items()},
        "by_suite": {},
    }


def sample(cell="below/spatial", question="Which shape is below the star?", **changes):
    image = ImageRef("0" * 64, "0" * 16, 64, 64, "image/png", "memory")
    base = Sample(
        (image,),
        question,
        Answer(AnswerKind.CHOICE, "B"),
        ("a circle", "a square"),
        "1. Look below the star.",
        provenance=Provenance("generated", 1, cell),
    )
    return replace(base, **changes)


def comparison(decision="accept"):
    change = CategoryChange(60, 0.2, 0.1, 0.3, 1.0, 0.001, 0.08)
    return Comparison(suite(0), suite(1), 0.38, 0.3, 0.46, dict.fromkeys(CATEGORIES, change), decision, ("macro rose",))


def full_round(index=1, decision="accept", **changes):
    failure = Failure("1", "Which?", "B", "answer: A", Attribution("reasoning", "took the cell itself"))
    cells = tuple(
        CellDiagnosis(name, "skill", 60, round(60 * pair[0]), max(pair[0] - 0.1, 0), min(pair[0] + 0.1, 1),
                      {"reasoning": 3, "other": 0}, (failure,))
        for name, pair in CATEGORIES.items()
    )  # fmt: skip
    plan = DataPlan(tuple(CellPlan(name, "skill", 1 / 3, 10, "more") for name in CATEGORIES), 30, 3)
    metrics = tuple({"reward": 0.2 + 0.02 * step, "kl": 0.01} for step in range(30))
    base = RoundReport(
        index,
        Diagnosis(0, cells, "abc", 180, 2),
        plan,
        TrainResult(PolicyRef("base", "adapter", 1), 30, metrics),
        comparison(decision),
        accepted=(sample(), sample("count/count", difficulty=Difficulty(4 / 9, 9, 0))),
        rejected=(
            Rejection(3, "pass_rate", "solved 9 of 9 times", "below/spatial", sample()),
            Rejection(4, "planner", "x"),
        ),
    )
    return replace(base, **changes)


def entry(index=1, decision="accept"):
    return {
        "index": index,
        "decision": decision,
        "gate": None,
        "proposed": 40,
        "accepted": 30,
        "rejected": {"pass_rate": 9, "planner": 1},
        "quota": {},
        "suppliers": {
            "retrieve": {"proposed": 16, "accepted": 8, "calls": 4},
            "annotate": {"proposed": 24, "accepted": 22, "calls": 187},
        },
        "train": {"steps": 30, "reward_first": 0.2, "reward_last": 0.78},
        "seconds": {"diagnose": 12.2, "train": 75.0},
        "cost": {"calls": 1234, "teacher_calls": 900, "tokens": 99_000, "usd": None},
    }


def report(*rounds, read=lambda image: png(), **summary):
    facts = {
        "schema": 1,
        "status": "complete",
        "error": "",
        "base": as_json(suite(0)),
        "final": as_json(suite(1)),
        "rounds": [entry()],
        "final_cost": {"calls": 300, "teacher_calls": 0, "tokens": 4_321, "usd": 0.25},
        "cost": {"calls": 1534, "teacher_calls": 911, "tokens": 103_321, "usd": 0.25},
    }
    return ReportData(
        "micro",
        {**facts, **summary},
        rounds or (full_round(),),
        read,
        ("911 of 2,000 teacher calls", "0.25 of 20.00 US$"),
    )


def test_every_section_of_a_finished_run_is_there_and_the_html_is_balanced():
    html = render(report())
    page = Page(html)
    for words in ("Final suite", "Accuracy by category over the rounds", "Decision", "Diagnosis", "Plan", "Supply",
                  "Training", "Spent", "macro rose", "took the cell itself", "solved 9 of 9 times",
                  "retrieve", "8.5", "4,321", "103,321", "1,534 calls", "911 of 2,000 teacher calls",
                  "0.25 of 20.00 US$"):  # fmt: skip
        assert words in html
    assert page.open == []
    assert page.tags.count("svg") > 8


def error(number, category="below", status="found", step=2, skills=("reading",), **fields):
    location = MistakeLocation("answer_switch", step, status)
    missing = tuple(MissingSkill(name, f"words about {name}", 1 / len(skills)) for name in skills)
    return ErrorRecord(
        str(number), category, ("I look.", f"I err {number}.", "So it is."), "A", location, missing, **fields
    )


def error_driven(*errors, **fields):
    """A round whose items were asked for no reasons, and whose errors were analysed."""
    failure = Failure("1", "Which of both?", "B", "1. x\nanswer: A", Attribution("not_judged", ""))
    cells = (CellDiagnosis("below", "unspecified", 10, 4, 0.2, 0.6, {"not_judged": 6}, (failure,), **fields),)
    names = sorted({(e.category, skill.name) for e in errors for skill in e.skills})
    plan = DataPlan(
        tuple(CellPlan(category, skill, 1 / len(names), 10, "x") for category, skill in names), 10 * len(names)
    )
    return full_round(diagnosis=Diagnosis(0, cells, "abc", 10, 0, errors), plan=plan)


ERRORS = (
    error(9), error(1), error(2, "largest", "fallback", 1, ("counting", "naming")), error(3, "count"),
    error(4, status="abstained", step=None, skills=()), error(5, status="unparsable", step=None, skills=()),
)  # fmt: skip


def text_of(html):
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_located_mistakes_are_counted_and_three_are_shown_with_the_step_marked():
    html = render(report(error_driven(*ERRORS)))
    assert "6 wrong answers were looked through" in html
    assert "3 located, 1 located by the largest jump, 1 abstained, 1 unparsable" in html
    assert "For 2 of them no missing skill could be named" in html
    assert html.count("errs here") == 3
    assert re.search(r'wrong">I err 1. <strong>errs here', html)
    assert "Which of both?" in html
    assert "words about reading" in html
    assert Page(html).open == []


def test_missing_skills_are_listed_by_the_number_of_errors():
    words = text_of(render(report(error_driven(*ERRORS))))
    assert "missing skill errors below/reading 2 largest/counting 1 largest/naming 1 count/reading 1" in words
    assert "below/reading - 2 " in words
    assert "largest/naming - 0.5 " in words
    assert "not probed" not in words


def test_reasons_that_nobody_asked_for_are_told_apart_from_a_judge_that_did_not_answer():
    assert "reason not asked 6" in render(report(error_driven(*ERRORS)))
    silent = Failure("1", "Which?", "B", "A", Attribution("not_judged", "", "connection refused"))
    cells = (CellDiagnosis("below", "x", 10, 4, 0.2, 0.6, {"not_judged": 6}, (silent,)),)
    html = render(report(full_round(diagnosis=Diagnosis(0, cells, "abc", 10, 0))))
    assert "judge did not answer 6" in html
    assert "the judge did not answer: connection refused" in html


def test_what_cells_lack_is_shown_with_what_measured_it_and_its_absence_is_told():
    plain = render(report(error_driven(*ERRORS)))
    assert "was not measured: <code>diagnose.needs</code> is off" in plain
    measured = error_driven(
        error(1, skills=("unspecified",)),
        need=Need.PERCEPTION, needs={"perception": 4, "knowledge": 2}, measured_by={"facts": 3, "none": 2, "zoom": 1},
    )  # fmt: skip
    words = text_of(render(report(measured)))
    assert (
        "perception 4, knowledge 2 (right when told the facts 3; nothing repaired it 2; right when enlarged 1)" in words
    )
    assert "below/unspecified 60 % 1 perception" in words
    assert "was not measured" not in words


def test_the_loss_of_supervised_fine_tuning_is_shown_and_that_of_grpo_is_not():
    losses = tuple({"loss": 2.0 - 0.1 * step} for step in range(10))
    tuned = full_round(train=TrainResult(PolicyRef("base"), 10, losses))
    html = render(report(tuned))
    assert "2.000 in the first step, 1.100 in the last" in html
    assert "Loss by optimiser step" in html
    assert "Mean reward" not in html
    chained = TrainResult(PolicyRef("base"), 12, (*losses, {"loss": 9.0, "reward": 0.5}, {"loss": 9.0, "reward": 0.6}))
    html = render(report(full_round(train=chained)))
    assert "1.100 in the last" in html
    assert "Mean reward" in html


def test_a_failed_run_says_why():
    assert "teacher &lt;t&gt; is down" in render(report(status="failed", error="teacher <t> is down"))


def test_words_of_a_model_are_escaped_wherever_they_stand():
    attacked = sample(ATTACK, ATTACK, options=(ATTACK, "b"), rationale=ATTACK, answer=Answer(AnswerKind.TEXT, ATTACK))
    failure = Failure("1", ATTACK, ATTACK, ATTACK, Attribution(ATTACK, ATTACK))
    cells = (CellDiagnosis(ATTACK, ATTACK, 3, 1, 0.1, 0.8, {ATTACK: 2}, (failure,)),)
    broken = full_round(
        diagnosis=Diagnosis(0, cells, "abc", 3, 0),
        plan=DataPlan((CellPlan(ATTACK, ATTACK, 1.0, 2, ATTACK),), 2),
        comparison=replace(comparison(), after=replace(suite(1), by_category={ATTACK: score(0.5)}), reasons=(ATTACK,)),
        accepted=(attacked,),
        rejected=(Rejection(1, ATTACK, ATTACK, ATTACK, attacked),),
    )
    page = Page(render(replace(report(broken), name=ATTACK)))
    assert page.open == []
    assert "script" not in page.tags
    assert not [a for a in page.attributes if a[1].startswith("on")]
    assert {value[:5] for tag, name, value in page.attributes if name in {"src", "href"}} <= {"data:"}


def test_no_outside_resource_is_asked_for_and_scripts_are_forbidden():
    html = render(report())
    page = Page(html)
    assert not re.search(r"https?://|@import|url\(", html)
    assert {value[:11] for _, name, value in page.attributes if name in {"src", "href", "srcset"}} == {"data:image/"}
    policy = next(value for _, name, value in page.attributes if name == "content" and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_bytes_of_an_image_never_pass_through_unchanged():
    hostile = png() + b"<script>alert(1)</script>"
    html = render(report(read=lambda image: hostile))
    addresses = [value for _, name, value in Page(html).attributes if name == "src"]
    assert addresses

    assert not any(b"script" in base64.b64decode(address.partition(",")[2]) for address in addresses)


@pytest.mark.parametrize("data", [b"", b"not a picture", b"%!PS-Adobe-3.0 EPSF-3.0\n", png()[:60]])
def test_an_unreadable_image_is_named_and_the_report_goes_on(data):
    html = render(report(read=lambda image: data))
    assert "image cannot be read" in html
    assert "<img" not in html


def test_a_lost_image_is_named_and_the_report_goes_on():
    def lost(image):
        raise PoolError("image: gone")

    assert "image cannot be read" in render(report(read=lost))


def test_a_run_that_has_only_begun_has_a_report():
    html = render(report(RoundReport(1), status="running", base=None, final=None, rounds=[]))
    assert "running" in html
    assert "not measured yet" in html


def test_a_round_without_training_says_why():
    ended = full_round(train=None, comparison=None, accepted=(), reasons=("no sample was accepted",))
    assert "no sample was accepted" in render(report(ended, rounds=[entry(decision="stop")]))


def test_a_policy_that_was_rolled_back_is_drawn_hollow():
    def hollow(decision):
        html = render(report(full_round(decision=decision), base=None, final=None))
        return html.count('class="dot hollow"')

    assert hollow("accept") == 0
    assert hollow("rollback") == len(CATEGORIES)


def test_at_most_the_cap_of_samples_is_read_and_every_cell_is_among_them():
    read = []
    many = (*(sample("common/x", f"question {i}?") for i in range(200)), sample("rare/x", "the rare question?"))
    html = render(report(full_round(accepted=many, rejected=()), read=lambda image: read.append(image) or png()))
    assert len(read) == SAMPLES_SHOWN
    assert "the rare question?" in html


def test_spread_takes_labels_in_turn_and_keeps_their_order():
    assert spread(["a1", "a2", "a3", "b1"], lambda text: text[0], 3) == ["a1", "b1", "a2"]
    assert spread([], str, 3) == []


def test_macro_interval_equals_the_hand_computed_case():
    part = {"n": 10, "accuracy": 0.5, "low": 0.2, "high": 0.9}
    whole = macro_interval({"macro": 0.5, "by_category": {"a": part, "b": part, "none": {**part, "n": 0}}})
    assert whole.value == 0.5
    assert whole.low == pytest.approx(0.5 - (2 * 0.3**2) ** 0.5 / 2)
    assert whole.high == pytest.approx(0.5 + (2 * 0.4**2) ** 0.5 / 2)
