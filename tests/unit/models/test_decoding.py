import math

import pytest
import torch
from PIL import Image

from dpe_ray.models.decoding import Job, decode
from dpe_ray.models.policy import load_policy, render
from dpe_ray.types import PolicyRef

TEXTS = ["What colour?", "What shape has the largest?", "blue", "What colour has the shape below a1?\nred or green?"]


@pytest.fixture
def policy(student):
    return load_policy(PolicyRef(student))


def job(policy, text=TEXTS[0], colour="red", **settings):
    inputs = render(policy.processor, text, [Image.new("RGB", (64, 64), colour)])
    return Job(inputs, **{"n": 1, "temperature": 0.0, "top_p": 1.0, "max_tokens": 12, "seed": 0, **settings})


def run(policy, *jobs):
    return decode(policy.model, policy.processor.tokenizer, jobs)


def tokens(completions):
    return [c.token_ids for c in completions]


def test_greedy_equals_transformers_generate(policy):
    for text in TEXTS:
        one = job(policy, text)
        wanted = policy.model.generate(**one.inputs, do_sample=False, max_new_tokens=12)
        [[got]] = run(policy, one)
        assert list(got.token_ids) == wanted[0, one.inputs["input_ids"].shape[1] :].tolist()


def test_a_greedy_batch_of_unequal_prompts_equals_single_prompts(policy):
    jobs = [job(policy, text, colour) for text, colour in zip(TEXTS, ("red", "blue", "white", "lime"), strict=True)]
    for together, one in zip(run(policy, *jobs), jobs, strict=True):
        [alone] = run(policy, one)[0]
        assert together[0].token_ids == alone.token_ids
        assert together[0].logprobs == pytest.approx(alone.logprobs, abs=1e-4)


def test_a_group_shares_its_prefill_yet_equals_independent_prompts(policy):
    prefills = []
    policy.model.model.vision_tower.register_forward_hook(lambda *_: prefills.append(1))
    [group] = run(policy, job(policy, n=5))
    assert len(prefills) == 1
    assert tokens(group) == tokens(run(policy, job(policy))[0]) * 5


def test_logprobs_equal_a_teacher_forced_forward_at_the_sampling_temperature(policy):
    one = job(policy, n=4, temperature=0.7, seed=3)
    for completion in run(policy, one, job(policy, TEXTS[3], n=2, temperature=1.0))[0]:
        written = torch.tensor([completion.token_ids])
        ids = torch.cat([one.inputs["input_ids"], written], 1)
        with torch.no_grad():
            logits = policy.model(input_ids=ids, pixel_values=one.inputs["pixel_values"]).logits
        forced = torch.log_softmax(logits[:, -written.shape[1] - 1 : -1] / 0.7, -1).gather(-1, written[..., None])
        torch.testing.assert_close(torch.tensor(completion.logprobs), forced[0, :, 0], atol=1e-4, rtol=0)


def test_alternatives_are_the_likeliest_tokens_of_a_teacher_forced_forward(policy):
    one = job(policy, n=3, temperature=0.7, seed=3, top_logprobs=4)
    tokenizer = policy.processor.tokenizer
    asked, beside, silent = run(policy, one, job(policy, TEXTS[3], n=2, top_logprobs=0), job(policy))
    for completion in asked:
        written = torch.tensor([completion.token_ids])
        ids = torch.cat([one.inputs["input_ids"], written], 1)
        with torch.no_grad():
            logits = policy.model(input_ids=ids, pixel_values=one.inputs["pixel_values"]).logits
        forced, order = torch.log_softmax(logits[0, -written.shape[1] - 1 : -1] / 0.7, -1).topk(4, -1)
        told = torch.tensor([[value for _, value in step] for step in completion.top_logprobs])
        torch.testing.assert_close(told, forced, atol=1e-4, rtol=0)
        assert [t for t, _ in completion.top_logprobs[0]] == [tokenizer.decode([token]) for token in order[0]]
        assert completion.tokens == tuple(tokenizer.decode([token]) for token in completion.token_ids)
    assert all(len(c.tokens) == len(c.token_ids) and c.top_logprobs == () for c in beside)
    assert all(c.tokens == c.top_logprobs == () for c in silent)


def test_alternatives_follow_their_row_when_others_end(policy):
    policy.model.generation_config.eos_token_id = list(range(0, 300, 2))
    for completion in run(policy, job(policy, n=30, temperature=1.0, seed=2, top_logprobs=400))[0]:
        assert len(completion.top_logprobs) == len(completion.token_ids)
        for text, logprob, step in zip(completion.tokens, completion.logprobs, completion.top_logprobs, strict=True):
            assert (text, pytest.approx(logprob, abs=1e-6)) in step
            assert sum(math.exp(value) for _, value in step) == pytest.approx(1, abs=1e-4)


def test_a_seed_decides_the_draws_whoever_shares_the_batch(policy):
    sampled = {"n": 3, "temperature": 1.0}
    alone = tokens(run(policy, job(policy, seed=5, **sampled))[0])
    beside = run(policy, job(policy, TEXTS[3], seed=1, **sampled), job(policy, seed=5, **sampled), job(policy))
    assert tokens(beside[1]) == alone
    assert tokens(beside[2]) == tokens(run(policy, job(policy))[0])
    assert len(set(alone)) == 3
    assert tokens(run(policy, job(policy, seed=6, **sampled))[0]) != alone


def test_draws_follow_the_distribution(policy):
    one = job(policy, n=4000, temperature=1.0, max_tokens=1)
    with torch.no_grad():
        probs = torch.softmax(policy.model(**one.inputs).logits[0, -1], -1)
    drawn = torch.tensor([c.token_ids[0] for c in run(policy, one)[0]]).bincount(minlength=len(probs)) / 4000
    assert float((drawn - probs).abs().sum() / 2) < 0.16  # total variation; 384 tokens, 4,000 draws


def test_top_p_draws_from_the_nucleus_only(policy):
    one = job(policy, n=300, temperature=1.0, top_p=0.3, max_tokens=1)
    with torch.no_grad():
        probs, order = torch.softmax(policy.model(**one.inputs).logits[0, -1], -1).sort(descending=True)
    nucleus = set(order[: int((probs.cumsum(0) < 0.3).sum()) + 1].tolist())
    assert {c.token_ids[0] for c in run(policy, one)[0]} <= nucleus
    tight = run(policy, job(policy, n=3, temperature=1.0, top_p=1e-9))[0]
    assert tokens(tight) == tokens(run(policy, job(policy))[0]) * 3


def test_rows_end_one_by_one_and_the_end_token_is_kept(policy):
    policy.model.generation_config.eos_token_id = list(range(0, 300, 2))
    group = run(policy, job(policy, n=40, temperature=1.0, seed=2), job(policy, TEXTS[2], n=3, temperature=1.0))[0]
    lengths = {len(c.token_ids) for c in group}
    assert len(lengths) > 3
    for completion in group:
        ended = [token in policy.model.generation_config.eos_token_id for token in completion.token_ids]
        assert not any(ended[:-1])
        assert completion.finished == ended[-1]
        assert len(completion.logprobs) == len(completion.token_ids)


def test_finished_rows_do_not_disturb_the_others(policy):
    sampled = job(policy, n=30, temperature=1.0, seed=2)
    free = [c.token_ids for c in run(policy, sampled)[0]]
    ends = list(range(0, 300, 2))
    policy.model.generation_config.eos_token_id = ends
    for cut, whole in zip(run(policy, sampled)[0], free, strict=True):
        assert cut.token_ids == whole[: len(cut.token_ids)]


def test_each_prompt_has_its_own_length_limit(policy):
    groups = run(policy, job(policy, max_tokens=2), job(policy, max_tokens=9), job(policy, max_tokens=1))
    assert [len(g[0].token_ids) for g in groups] == [2, 9, 1]
    assert not groups[0][0].finished


def test_a_stop_text_ends_a_row_and_is_cut(policy):
    [[free]] = run(policy, job(policy, n=1, max_tokens=12))
    stop = free.text[4:7]
    [[stopped]] = run(policy, job(policy, max_tokens=12, stop=(stop, "never")))
    assert stopped.text == free.text[: free.text.index(stop)]
    assert stopped.finished
    assert len(stopped.token_ids) < len(free.token_ids)
