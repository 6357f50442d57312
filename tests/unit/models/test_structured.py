import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from dpe_ray.errors import BadReply
from dpe_ray.models.structured import parse_reply


class Verdict(BaseModel):
    correct: bool
    reason: str = ""


@pytest.mark.parametrize("text", [
    '{"correct": true}',
    'Sure!\n```json\n{"correct": true}\n```\nAnything else?',
    'The set {a, b} is odd, {so}: {"correct": true, "reason": "a } in { text"} Done.',
    'The form is {"correct": false} or so. Now: {"correct": true, "reason": "two\nlines"}',
    '{"correct": true} and a later {"other": 1}',
])  # fmt: skip
def test_the_last_fitting_object_is_found_in_prose(text):
    assert parse_reply(text, Verdict).correct


@pytest.mark.parametrize("text", ["", "no", '{"correct": "perhaps"}', '{"correct": tr', "[true]", "{" * 100_000])
def test_other_replies_are_bad(text):
    with pytest.raises(BadReply):
        parse_reply(text, Verdict)


def test_deep_nesting_is_a_bad_reply():
    with pytest.raises(BadReply):
        parse_reply('{"a":' * 100_000, Verdict)


@given(st.text(), st.text(alphabet=st.characters(exclude_characters="{}")))
def test_any_reason_survives_any_prose(reason, prose):
    reply = Verdict(correct=True, reason=reason).model_dump_json()
    assert parse_reply(prose + reply + prose, Verdict).reason == reason
