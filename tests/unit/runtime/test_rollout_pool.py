"""How the prompts of a step are shared out among replicas."""

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, ObjectLostError, RayTaskError
from tenacity import nap

from dpe_ray.errors import BadRequest, ClusterError, TrainingError
from dpe_ray.models.sampling import rollout_seeds
from dpe_ray.runtime import rollout_pool
from dpe_ray.runtime.rollout_pool import PROMPTS_PER_CALL, ServeRolloutPool
from dpe_ray.types import Answer, AnswerKind, Completion, ImageRef, Prompt, Rollout, RolloutGroup, Sample

SETTINGS = {"group_size": 1, "temperature": 1.0, "top_p": 1.0, "max_tokens": 4, "seed": 1}


class Replicas:
    """Handle of an app whose engine writes the seed of each prompt."""

    def __init__(self):
        self.calls = []
        self.rollout = self
        self.broken = {}
        self.versions = {}

    def remote(self, prompts, settings):
        self.calls.append(prompts)
        seeds = rollout_seeds(prompts, settings["seed"])
        call = len(self.calls)
        version, asked = self.versions.get(call, 3), zip(prompts, seeds, strict=True)
        groups = [RolloutGroup(prompt, (Rollout(Completion(str(seed))),), version, (1,)) for prompt, seed in asked]
        return Call(groups, self.broken.get(call))


class Call:
    def __init__(self, groups, error):
        self._groups, self._error = groups, error

    def result(self):
        if self._error:
            raise self._error
        return self._groups


@pytest.fixture
def replicas(monkeypatch):
    replicas = Replicas()
    monkeypatch.setattr(rollout_pool.serve, "get_app_handle", lambda app: replicas)
    monkeypatch.setattr(nap.time, "sleep", lambda _: None)
    return replicas


def make_prompt(question):
    image = ImageRef("a" * 64, "0" * 16, 64, 64, "image/png", "/a.png")
    return Prompt(Sample((image,), question, Answer(AnswerKind.TEXT, "red")), question)


def test_a_prompt_asked_twice_in_a_step_has_another_seed_in_another_call(replicas):
    prompts = [make_prompt(f"What is {i % 30}?") for i in range(50)]
    groups = ServeRolloutPool("student").rollout(prompts, **SETTINGS)
    assert [group.prompt for group in groups] == prompts
    assert len(replicas.calls) == -(-len(prompts) // PROMPTS_PER_CALL)
    seeds = [int(group.rollouts[0].completion.text) for group in groups]
    assert seeds == rollout_seeds(prompts, 1)
    assert len(set(seeds)) == len(prompts)


PROMPTS = [make_prompt(f"What is {i}?") for i in range(50)]
LOST = [ActorDiedError(), ActorUnavailableError("it does not answer", b"1" * 16), ObjectLostError("ab", None, "here")]


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_what_replicas_that_ended_were_asked_is_asked_again_and_nothing_else(replicas, error, caplog):
    undisturbed = ServeRolloutPool("student").rollout(PROMPTS, **SETTINGS)
    replicas.calls.clear()
    replicas.broken = {2: error, 4: error, 5: error}
    assert ServeRolloutPool("student").rollout(PROMPTS, **SETTINGS) == undisturbed
    second, fourth = replicas.calls[1], replicas.calls[3]
    assert replicas.calls[4:] == [second, fourth, second]
    assert "app student: 2 rollout calls were lost" in caplog.text


def test_replicas_that_end_again_and_again_are_a_cluster_error(replicas):
    replicas.broken = dict.fromkeys(range(1, 100), ActorDiedError())
    with pytest.raises(ClusterError, match="app student: no rollouts"):
        ServeRolloutPool("student").rollout(PROMPTS[:1], **SETTINGS)
    assert len(replicas.calls) == 4


def test_what_an_engine_refuses_is_asked_once(replicas):
    replicas.broken = {1: RayTaskError("rollout", "no context", BadRequest("no context")).as_instanceof_cause()}
    with pytest.raises(BadRequest, match="no context"):
        ServeRolloutPool("student").rollout(PROMPTS[:1], **SETTINGS)
    assert len(replicas.calls) == 1


def test_a_new_replica_of_another_policy_is_noticed(replicas):
    replicas.broken, replicas.versions = {1: ActorDiedError()}, {5: 2}
    with pytest.raises(TrainingError, match=r"policies \[2, 3\]"):
        ServeRolloutPool("student").rollout(PROMPTS, **SETTINGS)
