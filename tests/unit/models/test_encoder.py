import math

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from dpe_ray.errors import BadRequest, ConfigError, ModelError
from dpe_ray.models.encoder import TextEncoder

WORDS = ["[PAD]", "[UNK]", "read", "the", "axis", "of", "a", "chart", "count", "objects"]
TEXTS = ["read the axis of a chart", "count objects", "count", "read a chart"]


def save_tokenizer(folder, **special):
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", **special).save_pretrained(folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A random BERT of two layers with a vocabulary of ten words and a context of sixteen."""
    folder = tmp_path_factory.mktemp("encoder")
    save_tokenizer(folder, pad_token="[PAD]")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, **shape))
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def encoder(checkpoint):
    return TextEncoder(checkpoint, {})


def by_hand(checkpoint, text):
    ids = torch.tensor([[WORDS.index(word) for word in text.split()]])
    with torch.no_grad():
        mean = BertModel.from_pretrained(checkpoint).eval()(input_ids=ids).last_hidden_state[0].mean(dim=0)
    return (mean / mean.norm()).tolist()


async def test_a_vector_is_the_mean_of_the_texts_own_tokens_scaled_to_length_one(encoder, checkpoint):
    for text, vector in zip(TEXTS, await encoder.embed(TEXTS), strict=True):
        assert vector == pytest.approx(by_hand(checkpoint, text), abs=1e-5)
        assert math.hypot(*vector) == pytest.approx(1)


async def test_neither_order_nor_batch_changes_a_vector(encoder, checkpoint):
    small = TextEncoder(checkpoint, {"batch": 1})
    for one, other in zip(await encoder.embed(TEXTS), (await small.embed(TEXTS[::-1]))[::-1], strict=True):
        assert one == pytest.approx(other, abs=1e-5)


async def test_no_texts_give_no_vectors(encoder):
    assert await encoder.embed([]) == []


@pytest.mark.parametrize("text", ["", "chart " * 17])
async def test_a_text_that_cannot_be_embedded_whole_is_refused(encoder, text):
    with pytest.raises(BadRequest, match=r"input\[1\]: .* 1 to 16"):
        await encoder.embed(["count", text])


def test_an_unknown_option_is_refused(checkpoint):
    with pytest.raises(ConfigError, match="no option 'pooling'"):
        TextEncoder(checkpoint, {"pooling": "last"})


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(ModelError, match="cannot be loaded"):
        TextEncoder(str(tmp_path), {})


def test_a_tokenizer_that_cannot_pad_is_refused(checkpoint, tmp_path):
    save_tokenizer(tmp_path)
    BertModel.from_pretrained(checkpoint).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no padding token"):
        TextEncoder(str(tmp_path), {})
