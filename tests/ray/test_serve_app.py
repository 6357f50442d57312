"""Served models, asked by the official client and by training."""

import asyncio
import base64
import contextlib
import io
import json
import logging
import os
import re
import signal
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

import openai
import pytest
import ray
import torch
from PIL import Image
from ray import serve

from dpe_ray.config import ModelConfig, Workers
from dpe_ray.errors import BadRequest, ClusterError, ModelUnavailable
from dpe_ray.models.openai_chat import ChatSpec
from dpe_ray.models.policy import load_policy, save_policy
from dpe_ray.ports import ChatReply, ChatRequest, Message
from dpe_ray.runtime import serve_app
from dpe_ray.runtime.endpoints import run_prefix
from dpe_ray.runtime.listening import Listen
from dpe_ray.runtime.policy_board import published
from dpe_ray.runtime.publication import publish
from dpe_ray.runtime.rollout_pool import ServeRolloutPool
from dpe_ray.runtime.serve_route import ServeRoute
from dpe_ray.types import Answer, AnswerKind, ImageRef, PolicyRef, Prompt, Sample


def png(colour="red"):
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


def user(text="What colour?", colour="red"):
    url = "data:image/png;base64," + base64.b64encode(png(colour)).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    return [{"role": "user", "content": parts}]


REMOTE = [{"type": "image_url", "image_url": {"url": "http://host/a.png"}}]


@pytest.fixture(scope="module")
def adapter(student, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    policy = load_policy(PolicyRef(student), trainable="lora")
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    save_policy(policy.model, policy.processor, folder)
    return str(folder)


@pytest.fixture(scope="module")
def url(student_url):
    return student_url


@pytest.fixture
def client(url):
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0)


def texts(reply):
    return [choice.message.content for choice in reply.choices]


def test_the_official_client_reads_models_and_answers(client):
    assert [m.id for m in client.models.list()] == ["student"]
    reply = client.chat.completions.create(model="student", messages=user(), n=3, temperature=0, max_tokens=5)
    assert len(set(texts(reply))) == 1
    assert [c.index for c in reply.choices] == [0, 1, 2]
    assert reply.system_fingerprint == "v0"
    assert reply.usage.prompt_tokens > 16
    assert reply.usage.completion_tokens == 15


def test_a_seed_repeats_a_sampled_reply(client):
    ask = {"model": "student", "messages": user(), "n": 4, "temperature": 1.0, "max_tokens": 6}
    first, again, other = (client.chat.completions.create(**ask, seed=seed) for seed in (5, 5, 6))
    assert texts(first) == texts(again) != texts(other)


def test_an_image_changes_the_answer_and_logprobs_come_when_asked(client):
    ask = {"model": "student", "temperature": 0, "max_tokens": 6, "logprobs": True}
    red, blue = (client.chat.completions.create(messages=user(colour=c), **ask) for c in ("red", "blue"))
    logprobs = [[t.logprob for t in reply.choices[0].logprobs.content] for reply in (red, blue)]
    assert len(logprobs[0]) == 6
    assert logprobs[0] != logprobs[1]
    assert all(value <= 0 for value in logprobs[0])


@pytest.mark.parametrize(("wrong", "named"), [
    ({"tools": []}, "tools"), ({"frequency_penalty": 0.5}, "frequency_penalty"), ({"n": 0}, "n"),
    ({"temperature": -1}, "temperature"), ({"top_logprobs": 5}, "top_logprobs"),
    ({"extra_body": {"top_k": 3}}, "top_k"),
    ({"response_format": {"type": "json_object"}}, "response_format"), ({"model": "other"}, "model"),
    ({"messages": []}, "messages"), ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"messages": [{"role": "user", "content": REMOTE}]}, "data URI"),
    ({"messages": [{"role": "user", "content": "<image>"}]}, "messages"),
])  # fmt: skip
def test_what_is_not_supported_is_a_400_that_names_it(client, wrong, named):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "student", "messages": user(), "max_tokens": 3, **wrong})
    assert named in caught.value.body["message"]
    assert caught.value.type == "invalid_request_error"


def test_a_body_that_is_no_json_is_a_400(url):
    request = urllib.request.Request(f"{url}/chat/completions", b"no json", {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=20)
    assert caught.value.code == 400
    assert "no JSON" in json.load(caught.value)["error"]["message"]


REQUEST = ChatRequest((Message("user", "What colour?"),), "student", "i", "answer@1", n=3, max_tokens=4)


@pytest.mark.parametrize("route", [None, ServeRoute("student")], ids=["http", "ray"])
async def test_our_own_client_gets_many_answers_at_once(url, route):
    model = ChatSpec("student", url, "student", concurrency=32, policy_version=0, route=route).open()
    replies = await asyncio.gather(*[model.chat(REQUEST) for _ in range(40)])
    assert {reply.texts for reply in replies} == {replies[0].texts}
    assert {reply.model for reply in replies} == {"student@v0"}


def test_calls_need_no_port_and_work_in_every_process_of_the_cluster(url):
    @ray.remote(num_cpus=0.1)
    def ask(spec: ChatSpec, request: ChatRequest) -> ChatReply:
        return asyncio.run(spec.open().chat(request))

    spec = ChatSpec("student", "http://host.invalid/v1", "student", retries=0, route=ServeRoute("student"))
    assert ray.get(ask.remote(spec, REQUEST)).model == "student@v0"


async def test_what_ray_refuses_is_an_outage_and_what_the_endpoint_refuses_is_not(url):
    nobody = ChatSpec("nobody", "http://host.invalid/v1", "nobody", retries=0, route=ServeRoute("nobody"))
    with pytest.raises(ModelUnavailable, match="nobody"):
        await nobody.open().chat(REQUEST)
    other = ChatSpec("student", url, "another", retries=0, route=ServeRoute("student"))
    with pytest.raises(BadRequest, match="serves 'student'"):
        await other.open().chat(REQUEST)


async def test_a_slow_reply_over_ray_is_an_outage(url):
    spec = ChatSpec("student", url, "student", retries=0, timeout_s=0.01, route=ServeRoute("student"))
    with pytest.raises(ModelUnavailable, match="1 attempts"):
        await spec.open().chat(REQUEST)


async def test_a_replica_of_another_version_never_answers(client, student, adapter, url):
    spec = ChatSpec("student", url, "student", retries=0, policy_version=0, route=ServeRoute("student"))
    await asyncio.to_thread(publish, "student", PolicyRef(student, adapter, 3))
    with pytest.raises(ModelUnavailable, match="it serves policy v3, v0 is wanted"):
        await spec.open().chat(REQUEST)
    await asyncio.to_thread(publish, "student", PolicyRef(student))
    assert (await spec.open().chat(REQUEST)).model == "student@v0"


def test_a_published_policy_reaches_every_replica(client, student, adapter):
    ask = {"model": "student", "messages": user(), "temperature": 0, "max_tokens": 8}
    before = texts(client.chat.completions.create(**ask))
    publish("student", PolicyRef(student, adapter, 3))
    replies = [client.chat.completions.create(**ask) for _ in range(12)]
    assert {reply.system_fingerprint for reply in replies} == {"v3"}
    assert texts(replies[0]) != before
    publish("student", PolicyRef(student))
    assert texts(client.chat.completions.create(**ask)) == before


def test_a_replica_that_dies_under_rollouts_changes_nothing_in_them_and_the_next_serves_what_was_published(
    client, student, adapter, prompts
):
    publish("student", PolicyRef(student, adapter, 3))
    pool, settings = ServeRolloutPool("student"), {**SETTINGS, "group_size": 32, "temperature": 2.0, "max_tokens": 256}
    undisturbed, old = pool.rollout(prompts, **settings), pids("student")
    killed: list[int] = []
    Thread(target=kill_the_first_busy, args=(old, killed), daemon=True).start()
    assert pool.rollout(prompts, **settings) == undisturbed
    assert killed, "while it computed"
    wait_for_replicas("student", {*old} - {*killed}, count=2)
    replies = [client.chat.completions.create(model="student", messages=user(), max_tokens=3) for _ in range(12)]
    assert {reply.system_fingerprint for reply in replies} == {"v3"}
    publish("student", PolicyRef(student))


def kill_the_first_busy(pids, killed):
    """The one that has computed for a while."""
    before = {pid: cpu_seconds(pid) for pid in pids}
    while not (busy := [pid for pid in pids if cpu_seconds(pid) > before[pid] + 0.3]):
        time.sleep(0.01)
    os.kill(busy[0], signal.SIGKILL)
    killed.append(busy[0])


def cpu_seconds(pid):
    """Of all its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pids(app):
    return sorted(set(serve.get_app_handle(app).broadcast("pid").results()))


def wait_for_replicas(app, survivors, count):
    """Until `count` replicas answer, those that survived among them."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        with contextlib.suppress(ray.exceptions.RayError):  # the one that was killed is still on Serve's list
            if len(now := set(pids(app))) == count and survivors < now:
                return
        time.sleep(0.2)
    raise AssertionError("the replica that was killed did not come back")


def test_a_policy_that_cannot_be_loaded_is_a_cluster_error_and_the_old_one_stays(client, student, adapter):
    old = PolicyRef(student, adapter, 3)
    publish("student", old)
    for attempt in (publish, lambda app, policy: ServeRolloutPool(app).publish(policy)):
        with pytest.raises(ClusterError, match="policy 9 was not loaded"):
            attempt("student", PolicyRef("/nowhere", version=9))
        assert published("student") == old
    replies = [client.chat.completions.create(model="student", messages=user(), max_tokens=3) for _ in range(12)]
    assert {reply.system_fingerprint for reply in replies} == {"v3"}
    publish("student", PolicyRef(student))


@pytest.fixture
def prompts(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    image = ImageRef("a" * 64, "0" * 16, 64, 64, "image/png", str(tmp_path / "a.png"))
    questions = [f"What colour{' red' * (i % 5)}{' blue' * i}?" for i in range(40)]
    return [Prompt(Sample((image,), q, Answer(AnswerKind.TEXT, "red")), q) for q in questions]


SETTINGS = {"group_size": 3, "temperature": 1.0, "top_p": 1.0, "max_tokens": 4, "seed": 1}


def test_rollouts_come_in_order_under_one_version(url, prompts):
    groups = ServeRolloutPool("student").rollout(prompts, **SETTINGS)
    assert [g.prompt.text for g in groups] == [p.text for p in prompts]
    assert all(len(g.rollouts) == 3 and g.policy_version == 0 and g.prompt_ids for g in groups)
    assert groups == ServeRolloutPool("student").rollout(prompts, **SETTINGS)


def test_a_prompt_asked_again_in_another_call_is_not_given_the_same_draws(url, prompts):
    groups = ServeRolloutPool("student").rollout([*prompts[:20], prompts[0]], **SETTINGS)
    assert groups[0].prompt == groups[20].prompt
    assert groups[0].rollouts != groups[20].rollouts


def test_an_engines_own_error_crosses_as_itself(url, prompts):
    with pytest.raises(BadRequest, match=r"exceed the context"):
        ServeRolloutPool("student").rollout(prompts[:1], **{**SETTINGS, "max_tokens": 10_000})


def test_the_pool_works_inside_a_task(url, prompts):
    @ray.remote(num_cpus=0.1)
    def work(pool: ServeRolloutPool, prompts: Sequence[Prompt]) -> int:
        return len(pool.rollout(prompts, **SETTINGS))

    assert ray.get(work.remote(ServeRolloutPool("student"), prompts[:2])) == 2


def test_another_port_than_the_running_one_is_refused(url, student):
    with pytest.raises(ClusterError, match="not on 12345"):
        serve_app.serve_models({"more": ModelConfig(source=student, engine="transformers")}, listen=Listen(port=12345))


def test_an_unknown_app_is_a_cluster_error(url, prompts):
    with pytest.raises(ClusterError, match="nobody"):
        ServeRolloutPool("nobody").rollout(prompts, **SETTINGS)


@pytest.fixture
def oracle(tmp_path):
    (tmp_path / "truth").write_text("")
    return ModelConfig(source=str(tmp_path / "truth"), engine="oracle", num_cpus=0.1)


@pytest.fixture
def crowded(url):
    """An app for whose second replica there is no room."""
    model = ModelConfig(source="any", engine="echo", num_cpus=2, replicas=Workers(min=2, max=2))
    target = serve_app._target(model, ("crowded", "crowded", ("echo", "any", {})))
    serve.run_many([target], wait_for_applications_running=False)
    deadline = time.monotonic() + 240
    while serve.status().applications["crowded"].deployments["ChatApp"].replica_states.get("RUNNING") != 1:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    yield "crowded"
    serve_app.take_down(["crowded"])


def test_a_replica_that_finds_no_room_does_not_hold_up_a_policy(crowded, caplog):
    caplog.set_level(logging.INFO)
    publish(crowded, PolicyRef("any", version=5))
    assert "app crowded: 1 replicas wait for room" in caplog.text
    assert published(crowded) == PolicyRef("any", version=5)


def test_two_runs_on_one_cluster_do_not_meet_and_leave_nothing_behind(url, oracle, student):
    before = set(serve.status().applications)
    with serve_app.serving({"teacher": oracle}, prefix="run-a", ours=False) as one:
        with serve_app.serving({"teacher": oracle}, prefix="run-b", ours=False) as two:
            assert {one["teacher"].app, two["teacher"].app} == {"run-a-teacher", "run-b-teacher"}
            assert set(serve.status().applications) == before | {"run-a-teacher", "run-b-teacher"}
        assert set(serve.status().applications) == before | {"run-a-teacher"}
    assert set(serve.status().applications) == before


def test_a_model_that_cannot_be_served_is_one_line_and_leaves_nothing_behind(url, oracle):
    before = set(serve.status().applications)
    models = {"teacher": oracle, "student": ModelConfig(source="/nowhere", engine="oracle")}
    serving = serve_app.serving(models, prefix="run-c", ours=False)
    with pytest.raises(ClusterError, match=r"run-c-student: .*/nowhere") as caught, serving:
        raise AssertionError("it serves")
    assert "\n" not in str(caught.value)
    assert set(serve.status().applications) == before


def test_the_prefix_of_a_run_comes_from_its_name_and_its_directory(tmp_path):
    first, second = (run_prefix("my run/1", tmp_path / name) for name in "ab")
    assert first != second
    assert first == run_prefix("my run/1", tmp_path / "a")
    assert re.fullmatch(r"my-run-1-[0-9a-f]{6}", first)
