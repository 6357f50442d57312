"""What a processor makes of prompts, as the trainer needs it: once per rollout batch, and as the engine saw it."""

from typing import Any

from dpe_ray.errors import TrainingError
from dpe_ray.models.images import decode, read_bytes
from dpe_ray.models.policy import LoadedPolicy, render
from dpe_ray.train.image_tokens import require_features
from dpe_ray.types import Prompt

Inputs = dict[str, Any]


class RenderedPrompts:
    """Prompts of a rollout batch, each rendered when it is first asked for.

    Held in the CPU's memory: a micro-batch shows the model few of their pictures, and takes those alone to its device.
    """

    def __init__(self, policy: LoadedPolicy) -> None:
        self._policy = policy
        self._rendered: dict[tuple[str, str], Inputs] = {}

    def forget(self) -> None:
        """Free the decoded pictures: the next rollout batch shows others."""
        self._rendered.clear()

    def ids(self, prompt: Prompt) -> tuple[int, ...]:
        """[S] tokens of a prompt, image tokens expanded.

        Raises ValueError when its text holds one of the model's control tokens.
        """
        return tuple(self.inputs(prompt)["input_ids"][0].tolist())

    def seen(self, prompt: Prompt, by_engine: tuple[int, ...]) -> Inputs:
        """Inputs of a prompt that an engine has answered, which saw the tokens `by_engine`.

        Raises TrainingError when they are not the trainer's.
        """
        if by_engine != self.ids(prompt):
            raise TrainingError(
                f"sample {prompt.sample.id}: trainer and rollout engine tokenize the prompt differently; "
                "serve and train the same checkpoint"
            )
        return self.inputs(prompt)

    def inputs(self, prompt: Prompt) -> Inputs:
        """What the model takes for a prompt; raises as `ids`, and TrainingError for pictures that do not fit it."""
        key = prompt.sample.id, prompt.text
        if key not in self._rendered:
            inputs = prompt_inputs(self._policy.processor, prompt)
            require_features(self._policy.model.config, inputs, prompt.sample.id)
            self._rendered[key] = inputs
        return self._rendered[key]


def prompt_inputs(processor: Any, prompt: Prompt) -> Inputs:
    """As `policy.render`, with the sample's pictures read and decoded. Raises PoolError when one cannot be."""
    images = [decode(read_bytes(image)) for image in prompt.sample.images]
    return render(processor, prompt.text, images)
