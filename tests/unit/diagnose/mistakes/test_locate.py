import math
import pickle
import re
from itertools import pairwise

import pytest
from builders import FakeChat, make_graded, make_image_ref, make_sample, silent_chat

from dpe_ray.diagnose.mistakes.locate import LocateJob, error_record, locate_mistakes, locate_rows
from dpe_ray.diagnose.mistakes.methods import METHODS, LocateSettings
from dpe_ray.errors import BadRequest, ConfigError
from dpe_ray.ports import ChatReply
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.types import Graded, MistakeLocation

STEPS = ("count star", "b2 makes 1", "c3 makes 2", "d4 makes 4", "makes 4")
TEXT = "\n".join([*(f"{n}. {step}" for n, step in enumerate(STEPS, start=1)), "answer: 4"])
CUE = "Reply with the letter of the right option alone.\nLetter:"
SAMPLE = make_sample("How many stars?", "3", kind="number", image=make_image_ref("stars"))
WRONG = make_graded(SAMPLE, "wrong", TEXT)


class Reader(FakeChat):
    """A teacher that follows a prior, a liking for slot A, and the words `makes 4`."""

    def __init__(self, liking=0.0, least_prior=0.0, gives_logprobs=True):
        super().__init__(self._say)
        self.liking, self.least_prior, self.gives_logprobs = liking, least_prior, gives_logprobs

    async def chat(self, request):
        reply = await super().chat(request)
        if not request.top_logprobs:
            return reply
        if not self.gives_logprobs:
            raise BadRequest("logprobs are not supported")
        a, b = self._chances(request.messages[0].text)
        return ChatReply(reply.texts, "reader", "", first_token=((("A", math.log(a)), ("B", math.log(b))),))

    def _say(self, request):
        text = request.messages[0].text
        if "rationale writer" in text:
            return "1. count star\n2. b2 makes 1\n3. c3 makes 2\n4. c4 makes 3\nanswer: 3"
        a, _ = self._chances(text)
        return ["A" if index < round(a * request.n) else "B" for index in range(request.n)]

    def _chances(self, text):
        if "step judge" in text:
            return (0.2, 0.8) if "4. d4 makes 4" in text else (0.9, 0.1)
        options = dict(re.findall(r"\(([AB])\) (\d)", text))
        favoured, percent = re.search(r"\((.)\) is right with a chance of (\d+) %", text).groups()
        prior = float(percent) / 100 if float(percent) / 100 > self.least_prior else 0.3
        z = math.log(prior / (1 - prior)) * (1 if favoured == "A" else -1) + self.liking
        z += 3.0 * ("makes 4" in text) * (1 if options["A"] == "4" else -1)
        return 1 / (1 + math.exp(-z)), 1 / (1 + math.exp(z))


async def locate_one(graded: Graded, teacher: FakeChat, method="answer_switch", **settings) -> MistakeLocation:
    found = await locate_mistakes(
        [graded], teacher, LocalMapper(), LocateSettings(method, **settings), workers=(1, 1), concurrency=2
    )
    return found[graded.sample.id]


async def test_the_step_at_which_the_teacher_switches_is_the_mistake():
    location = await locate_one(WRONG, Reader())
    assert (location.step, location.status, location.prior) == (4, "found", 0.6)
    assert len(location.margins) == len(STEPS) + 1
    assert location.margins[0] == pytest.approx(-math.log(1.5))
    assert location.calls == 2 * (len(STEPS) + 1)


async def test_prefix_t_holds_exactly_the_first_t_steps_in_two_orders_and_no_image():
    teacher = Reader()
    await locate_one(WRONG, teacher)
    prefixes = []
    for request in teacher.requests:
        (message,) = request.messages
        assert message.images == ()
        prefixes.append(tuple(re.findall(r"(?m)^\d\. (.*)$", message.text)))
    assert sorted(prefixes) == sorted(2 * [STEPS[:t] for t in range(len(STEPS) + 1)])
    assert all("answer: 4" not in request.messages[0].text for request in teacher.requests)


async def test_all_prefixes_of_one_order_share_their_prompt_up_to_the_steps():
    teacher = Reader()
    await locate_one(WRONG, teacher)
    texts = [request.messages[0].text for request in teacher.requests]
    heads = {text.partition("Steps:\n")[0] for text in texts}
    assert len(heads) == 2
    for head in heads:
        ours = sorted((text for text in texts if text.startswith(head)), key=len)
        for short, long in pairwise(ours):
            assert long.startswith(short.removesuffix(CUE))


async def test_the_prompt_plants_the_configured_prior_on_the_right_option():
    teacher = Reader()
    await locate_one(WRONG, teacher, prior=0.7)
    told = {re.search(r"Known beforehand: (.*)", request.messages[0].text)[1] for request in teacher.requests}
    assert told == {
        "(A) is right with a chance of 70 %, (B) with 30 %",
        "(B) is right with a chance of 70 %, (A) with 30 %",
    }


async def test_a_liking_for_a_slot_changes_nothing():
    straight, liking = [await locate_one(WRONG, Reader(liking)) for liking in (0.0, 1.0)]
    assert liking.margins == pytest.approx(straight.margins)


async def test_the_prior_is_widened_while_the_wrong_option_leads_from_the_start():
    location = await locate_one(WRONG, Reader(least_prior=0.7))
    assert (location.step, location.prior) == (4, 0.75)
    assert location.calls == 2 * (len(STEPS) + 1) + 2
    hopeless = await locate_one(WRONG, Reader(least_prior=0.95))
    assert (hopeless.step, hopeless.status, hopeless.prior) == (None, "abstained", 0.9)


async def test_an_endpoint_without_log_probabilities_is_sampled():
    teacher = Reader(gives_logprobs=False)
    location = await locate_one(WRONG, teacher, samples=20)
    assert location.step == 4
    sampled = [request for request in teacher.requests if not request.top_logprobs]
    assert {(request.n, request.temperature) for request in sampled} == {(20, 1.0)}
    assert len(teacher.requests) - len(sampled) <= 2


@pytest.mark.parametrize(
    ("method", "step", "calls"),
    [("largest_jump", 4, 12), ("change_point", 4, 12), ("prompt_per_step", 4, 5), ("pseudo_rationale", 4, 1)],
)
async def test_the_other_methods_run_behind_the_same_call(method, step, calls):
    location = await locate_one(WRONG, Reader(), method)
    assert (location.method, location.step, location.calls) == (method, step, calls)


async def test_random_asks_nobody():
    teacher = Reader()
    location = await locate_one(WRONG, teacher, "random")
    assert 1 <= location.step <= len(STEPS)
    assert teacher.requests == []


@pytest.mark.parametrize("method", [*METHODS, "none"])
@pytest.mark.parametrize("text", ["answer: 4", "", "1. count star\n2. four of them"])
async def test_what_has_no_steps_or_no_answer_is_unparsable_and_reaches_no_teacher(method, text):
    teacher = Reader()
    location = await locate_one(make_graded(SAMPLE, "unparsable", text), teacher, method)
    assert (location.step, location.status, location.calls) == (None, "unparsable", 0)
    assert teacher.requests == []


async def test_without_a_method_every_readable_answer_abstains_and_nobody_is_asked():
    teacher = Reader()
    location = await locate_one(WRONG, teacher, "none")
    assert (location.method, location.step, location.status, location.calls) == ("none", None, "abstained", 0)
    assert teacher.requests == []


async def test_right_and_unjudged_answers_are_left_out():
    graded = [make_graded(SAMPLE, "correct", TEXT), make_graded(make_sample("Other?"), "not_judged", TEXT)]
    assert await locate_mistakes(graded, Reader(), LocalMapper(), LocateSettings(), workers=(1, 1), concurrency=1) == {}


@pytest.mark.parametrize("method", [name for name in METHODS if name != "random"])
async def test_a_teacher_out_of_reach_leaves_no_step_and_says_so(method):
    location = await locate_one(WRONG, silent_chat(), method)
    assert (location.step, location.status) == (None, "unavailable")
    assert location.unanswered


def test_an_unknown_method_is_named_with_those_that_exist():
    with pytest.raises(ConfigError, match=r"'guess'.*answer_switch"):
        locate_rows(LocateJob(Reader(), LocateSettings("guess")))


def test_the_job_pickles():
    assert pickle.loads(pickle.dumps(LocateSettings("random", seed=3))) == LocateSettings("random", seed=3)


def test_an_error_record_holds_steps_answer_and_location():
    location = MistakeLocation("answer_switch", 4, "found")
    record = error_record(WRONG, location)
    assert (record.steps, record.answer, record.location) == (STEPS, "4", location)
