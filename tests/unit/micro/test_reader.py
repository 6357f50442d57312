import math
from collections import Counter

import pytest

from dpe_ray.errors import BadRequest
from dpe_ray.micro.oracle import OracleEngine
from dpe_ray.models.prompts import PromptFile
from dpe_ray.ports import EngineRequest

STEPS = ("a1 plus b1", "a1 4", "b1 5", "start with 4", "4 + 5 = 10", "makes 10")
OPTIONS = [("A", "9"), ("B", "10"), ("C", "11"), ("D", "12")]


@pytest.fixture
def oracle(tmp_path):
    (tmp_path / "truth.jsonl").write_text("")
    return lambda **options: OracleEngine(str(tmp_path / "truth.jsonl"), options)


def prompt(name="answer_switch", **values):
    known = {
        "answer_switch": {"options": OPTIONS[:2], "favoured": "A", "other": "B", "percent": 60},
        "step_judge": {"reference": "9"},
        "own_rationale": {"reference": "9"},
    }
    file = PromptFile.load("dpe_ray.diagnose.mistakes", name)
    asked = {"question": "What is the sum of the digits at a1 and b1?", "steps": [], **known[name], **values}
    return file.render(**asked)


async def ask(engine, text, **values):
    sampling = {"temperature": 0.0, "logprobs": True, "top_logprobs": 20, **values}
    return await engine.chat(EngineRequest((("user", text, ()),), **sampling))


async def chances(engine, text):
    (completion,) = await ask(engine, text)
    return {letter: math.exp(p) for letter, p in completion.top_logprobs[0]}


async def test_before_the_steps_say_anything_the_reader_has_the_planted_prior(oracle):
    assert await chances(oracle(), prompt()) == pytest.approx({"A": 0.6, "B": 0.4})
    four = await chances(oracle(), prompt(options=OPTIONS))
    assert four == pytest.approx({"A": 0.54, "B": 0.36, "C": 0.05, "D": 0.05})


async def test_what_the_steps_imply_moves_the_reader(oracle):
    led = [(await chances(oracle(), prompt(steps=STEPS[:t])))["B"] for t in range(len(STEPS) + 1)]
    gain = math.exp(3.0)
    right, wrong = 0.4 / (0.4 + 0.6 * gain), 0.4 * gain / (0.4 * gain + 0.6)
    assert led == pytest.approx([0.4, 0.4, 0.4, right, right, wrong, wrong])


async def test_the_reader_knows_the_text_alone(oracle):
    image = b"any image"
    request = EngineRequest((("user", prompt(steps=STEPS), (image,)),), logprobs=True, top_logprobs=20)
    (seen,) = await oracle().chat(request)
    (unseen,) = await ask(oracle(), prompt(steps=STEPS))
    assert seen.top_logprobs == unseen.top_logprobs


async def test_without_log_probabilities_the_reader_draws_letters_in_their_share_and_repeats_itself(oracle):
    drawn = await ask(oracle(), prompt(), n=400, temperature=1.0, seed=3, logprobs=False, top_logprobs=0)
    assert all(completion.top_logprobs == completion.logprobs == () for completion in drawn)
    assert Counter(completion.text for completion in drawn)["A"] == pytest.approx(240, abs=30)
    assert drawn == await ask(oracle(), prompt(), n=400, temperature=1.0, seed=3, logprobs=False, top_logprobs=0)


async def test_the_step_judge_names_the_step_that_leads_elsewhere(oracle):
    judged = [(await chances(oracle(), prompt("step_judge", steps=STEPS[:t])))["B"] for t in range(1, len(STEPS) + 1)]
    assert [p > 0.5 for p in judged] == [False, False, False, False, True, False]


async def test_without_the_image_the_rationale_writer_can_only_repeat_the_answer(oracle):
    (reply,) = await ask(oracle(), prompt("own_rationale"), logprobs=False, top_logprobs=0)
    assert reply.text.endswith("so it is 9")


async def test_a_careless_reader_takes_its_share_of_prompts_the_wrong_way_round(oracle):
    careful, careless = oracle(), oracle(error_rate=0.2)
    texts = [prompt(question=f"What is in picture {number}?") for number in range(300)]
    turned = [await chances(careful, text) != await chances(careless, text) for text in texts]
    assert 30 <= sum(turned) <= 90


async def test_roles_that_write_have_no_log_probabilities(oracle):
    with pytest.raises(BadRequest, match="log-probabilities"):
        await ask(oracle(), "You are the judge.\nQuestion: Which?")
