"""vLLM behind Serve: what it answers over HTTP, a step of GRPO from its rollouts, and what is left of it in the end."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dpe_ray.config import ModelConfig
from dpe_ray.errors import ClusterError
from dpe_ray.models.openai_chat import ChatSpec
from dpe_ray.models.transformers_engine import TransformersEngine
from dpe_ray.ports import ChatRequest, Message
from dpe_ray.train.loop import train
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.types import PolicyRef, Prompt, RolloutGroup

SETTINGS = GrpoSettings(
    lora_rank=8, lr=5e-3, kl=0.02, prompts_per_step=8, group_size=8, steps=2, max_tokens=40, drop_equal_groups=False
)
GREEDY = {"group_size": 1, "temperature": 0.0, "top_p": 1.0, "max_tokens": 40, "seed": 0}


@pytest.fixture(scope="module")
def url(ray_session: None, student: str) -> Iterator[str]:
    """One replica, served as `student`; when it is gone, so are vLLM's processes."""
    from dpe_ray.runtime import serve_app

    model = ModelConfig(source=student, engine="vllm", num_cpus=0.5)
    url = serve_app.serve_models({"student": model})["student"].url
    yield url
    serve_app.take_down(["student"])
    check_gone(vllm_processes())


def vllm_processes() -> list[psutil.Process]:
    """That this Ray started."""
    children = psutil.Process().children(recursive=True)
    return [each for each in children if "VLLM::" in " ".join(each.as_dict(["cmdline"])["cmdline"] or ())]


def check_gone(processes: list[psutil.Process]) -> None:
    """They end within half a minute; whoever inherits them may leave them as zombies."""
    deadline = time.monotonic() + 30
    while (left := [each for each in processes if lives(each)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left


def lives(process: psutil.Process) -> bool:
    """Neither gone nor a zombie."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def tokens(groups: list[RolloutGroup]) -> list[tuple[int, ...]]:
    return [rollout.completion.token_ids for group in groups for rollout in group.rollouts]


async def test_our_own_client_is_answered_over_http(url: str, prompts: list[Prompt]) -> None:
    asked = [
        ChatRequest((Message("user", prompt.text, prompt.sample.images),), "student", prompt.sample.id, "answer@1")
        for prompt in prompts[:6]
    ]
    model = ChatSpec("student", url, "student", policy_version=0).open()
    replies = await asyncio.gather(*[model.chat(request) for request in asked])
    assert {reply.model for reply in replies} == {"student@v0"}
    assert all(reply.texts[0] for reply in replies)


def test_a_whole_step_of_grpo_takes_its_rollouts_from_vllm_and_the_next_ones_show_the_new_adapter(
    url: str, prompts: list[Prompt], student: str, tmp_path: Path
) -> None:
    from dpe_ray.runtime.rollout_pool import ServeRolloutPool

    pool = ServeRolloutPool("student")
    before = pool.rollout(prompts, **GREEDY)
    result = train(PolicyRef(student), prompts, pool, SETTINGS, out=str(tmp_path / "out"), seed=0)
    assert [step["logprob_gap"] < 1e-3 for step in result.metrics] == [True, True]
    assert result.metrics[0]["kl"] == pytest.approx(0, abs=1e-6)
    after = pool.rollout(prompts, **GREEDY)
    assert {group.policy_version for group in after} == {result.policy.version} == {1}
    assert tokens(after) != tokens(before)
    plain = TransformersEngine(student, {})
    plain.load_policy(result.policy)
    assert tokens(after) == tokens(plain.rollout(prompts, **GREEDY))


def test_an_adapter_on_the_projector_is_refused_and_the_old_policy_stays(
    url: str, prompts: list[Prompt], student: str, policies: Path
) -> None:
    from dpe_ray.runtime.publication import publish
    from dpe_ray.runtime.rollout_pool import ServeRolloutPool

    publish("student", PolicyRef(student, str(policies / "adapter"), 7))
    with pytest.raises(ClusterError, match=r"outside the language model.*multi_modal_projector"):
        publish("student", PolicyRef(student, str(policies / "projector"), 8))
    [group] = ServeRolloutPool("student").rollout(prompts[:1], **GREEDY)
    assert group.policy_version == 7


def test_a_replica_that_is_killed_leaves_no_process_of_vllm_behind(url: str) -> None:
    from ray import serve

    processes = vllm_processes()
    assert len(processes) >= 2
    os.kill(serve.get_app_handle("student").pid.remote().result(), signal.SIGKILL)
    check_gone(processes)
