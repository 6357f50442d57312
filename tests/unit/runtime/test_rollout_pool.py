"""How the prompts of a step are shared out among replicas."""

import pytest

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

    def remote(self, prompts, settings):
        self.calls.append(prompts)
        return Call(prompts, rollout_seeds(prompts, settings["seed"]))


class Call:
    def __init__(self, prompts, seeds):
        self._asked = list(zip(prompts, seeds, strict=True))

    def result(self):
        return [RolloutGroup(prompt, (Rollout(Completion(str(seed))),), 3, (1,)) for prompt, seed in self._asked]


@pytest.fixture
def replicas(monkeypatch):
    replicas = Replicas()
    monkeypatch.setattr(rollout_pool.serve, "get_app_handle", lambda app: replicas)
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
