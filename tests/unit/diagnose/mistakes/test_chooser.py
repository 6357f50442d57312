import math

import pytest
from builders import FakeChat, make_image_ref

from dpe_ray.diagnose.mistakes.chooser import FLOOR, Chooser, TextOnly, counted_log_probs, letter_log_probs
from dpe_ray.errors import BadRequest
from dpe_ray.ports import ChatReply, ChatRequest, Message

REQUEST = ChatRequest((Message("user", "Which?"),), "reader", "item", "answer_switch@1")


class Speaking(FakeChat):
    """A FakeChat that gives log-probabilities of its first token, or refuses to, or leaves them out."""

    def __init__(self, first_token, texts=("A",)):
        super().__init__(lambda request: list(texts) if request.n > 1 else texts[0])
        self.first_token = first_token

    async def chat(self, request):
        reply = await super().chat(request)
        if not request.top_logprobs:
            return reply
        if self.first_token is None:
            raise BadRequest("no log-probabilities here")
        return ChatReply(reply.texts, reply.model, reply.call, first_token=self.first_token)


def shares(log_probs):
    return [math.exp(p) for p in log_probs]


def test_letters_are_read_whatever_stands_around_them_and_their_forms_add_up():
    seen = [(" B", math.log(0.4)), ("(A", math.log(0.2)), ("b)", math.log(0.1)), ("A.", math.log(0.1)), ("So", -3.0)]
    assert shares(letter_log_probs(seen, 2)) == pytest.approx([0.375, 0.625])


def test_letters_beyond_the_options_and_whole_words_are_no_options():
    assert letter_log_probs([("C", -0.1), ("Apple", -2.0), ("\u2581the", -3.0)], 2) is None


def test_an_absent_letter_is_no_likelier_than_the_least_alternative_nor_than_what_is_left():
    found = shares(letter_log_probs([("A", math.log(0.9)), ("x", math.log(0.09))], 2))
    assert found[1] / found[0] == pytest.approx(0.01 / 0.9)
    certain = letter_log_probs([("A", 0.0)], 3)
    assert certain[1] - certain[0] == pytest.approx(FLOOR)
    assert sum(shares(certain)) == pytest.approx(1.0)


def test_sampled_answers_are_counted_with_one_added_to_each():
    assert shares(counted_log_probs(["A", "(a)", "The answer is B", "no idea"], 2)) == pytest.approx([3 / 5, 2 / 5])


async def test_one_call_reads_the_first_token():
    model = TextOnly(Speaking(((("B", math.log(0.8)), ("A", math.log(0.2))),)))
    assert shares(await Chooser(model, 16).choose(REQUEST, 2)) == pytest.approx([0.2, 0.8])
    assert model.calls == 1
    (asked,) = model.model.requests
    assert (asked.top_logprobs, asked.max_tokens, asked.temperature) == (20, 1, 0.0)


@pytest.mark.parametrize("first_token", [None, ()])
async def test_without_log_probabilities_answers_are_sampled_and_the_endpoint_is_not_asked_for_them_again(first_token):
    model = TextOnly(Speaking(first_token, ["A"] * 5 + ["B"]))
    chooser = Chooser(model, 6)
    assert shares(await chooser.choose(REQUEST, 2)) == pytest.approx([6 / 8, 2 / 8])
    await chooser.choose(REQUEST, 2)
    assert [(r.n, r.temperature, r.top_logprobs) for r in model.model.requests[1:]] == [(6, 1.0, 0)] * 2


async def test_alternatives_without_any_letter_are_sampled_this_once():
    model = TextOnly(Speaking(((("The", -0.1), ("It", -2.0)),), ["B"] * 6))
    await Chooser(model, 6).choose(REQUEST, 2)
    assert model.calls == 2


async def test_a_request_with_an_image_never_reaches_the_teacher():
    teacher = FakeChat(lambda request: "A")
    message = Message("user", "Which?", (make_image_ref(),))
    with pytest.raises(ValueError, match="carries an image"):
        await TextOnly(teacher).chat(ChatRequest((message,), "reader", "item", "answer_switch@1"))
    assert teacher.requests == []
