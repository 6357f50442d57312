"""Stop texts are found at the token that completes them, however long the row is, from its last tokens."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.models.decoding import Job, _record, _Row


class Bytes:
    """Tokens are bytes, with id 256 a special one, 257 empty and 258 a long word; decodes as byte-level BPE does."""

    def __init__(self):
        self.read = 0

    def decode(self, tokens, skip_special_tokens=True):
        self.read += len(tokens)
        words = (b"" if token in (256, 257) else b"everything " if token == 258 else bytes([token]) for token in tokens)
        return b"".join(words).decode(errors="replace")


class Pieces(Bytes):
    """As sentence pieces: the first space of a text is left out."""

    def decode(self, tokens, skip_special_tokens=True):
        return super().decode(tokens, skip_special_tokens).removeprefix(" ")


def ended(tokens, stop, tokenizer):
    """Number of tokens that the row has when it ends by one of the stop texts; 0 if it goes on to the end."""
    row = _Row(Job({}, 1, 1.0, 1.0, len(tokens) + 1, 0, stop))
    for token in tokens:
        if _record([row], torch.tensor([token]), torch.zeros(1), frozenset(), tokenizer) == [False]:
            return len(row.tokens)
    return 0


def ended_by_the_whole_text(tokens, stop, tokenizer):
    texts = (tokenizer.decode(tokens[: i + 1]) for i in range(len(tokens)))
    return next((i + 1 for i, text in enumerate(texts) if any(each in text for each in stop)), 0)


@pytest.mark.parametrize("kind", [Bytes, Pieces])
@given(
    st.lists(st.sampled_from([*"ab .é€".encode(), 256, 257, 258]), max_size=80),
    st.lists(st.text("ab .é€", min_size=1, max_size=5), min_size=1, max_size=3).map(tuple),
)
def test_a_row_ends_where_its_whole_text_first_holds_a_stop_text(kind, tokens, stop):
    assert ended(tokens, stop, kind()) == ended_by_the_whole_text(tokens, stop, kind())


@pytest.mark.parametrize("lead", [100, 1000])
def test_a_stop_text_far_into_a_row_is_found_across_its_tokens(lead):
    tokens = [*b"a" * lead, *" End of €".encode(), *b"more"]
    assert ended(tokens, ("End of €",), Bytes()) == lead + len(" End of €".encode())
    assert ended([*b"a" * lead, 258, *b"b"], ("thing",), Bytes()) == lead + 1


def test_what_is_read_for_a_stop_text_grows_with_the_row_and_not_with_its_square():
    draw = random.Random(0)
    tokens = [draw.choice(b"abc ") for _ in range(2000)]
    short, long = Bytes(), Bytes()
    assert ended(tokens[:1000], ("zzz",), short) == ended(tokens, ("zzz",), long) == 0
    assert long.read < 2.2 * short.read
    assert long.read < 25 * len(tokens)
