"""The teacher of the micro world: plays every role from the ground truth, and can be made to err, fail or dawdle.

Everything is drawn by hashes, so equal requests have equal answers in any process.
"""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpe_ray.errors import BadRequest, ModelCutOff, ModelTimeout, ModelUnavailable, PoolError
from dpe_ray.micro.asked import read_prompt
from dpe_ray.micro.illustrators import ILLUSTRATORS
from dpe_ray.micro.reader import CHOOSERS, lettered
from dpe_ray.micro.roles import ROLES, Mind, OracleOptions, chance, pick
from dpe_ray.micro.world import Scene
from dpe_ray.ports import EngineRequest
from dpe_ray.types import Completion, PolicyRef

OUTAGES = (
    (ModelUnavailable, "an overloaded endpoint"),
    (ModelTimeout, "an endpoint that hangs"),
    (ModelCutOff, "a connection that breaks off"),
)


class OracleEngine:
    """The engine `oracle`: answers chat requests about the micro world's images."""

    def __init__(self, source: str, options: dict[str, Any]) -> None:
        """`source` is the truth file of `micro.sources.truth`. Raises PoolError when it cannot be read."""
        self._options = OracleOptions.read(options)
        self._truth = _read_truth(Path(source))

    @staticmethod
    def check_options(options: dict[str, Any]) -> None:
        """Raise ConfigError for an option that there is not, or a wrong value."""
        OracleOptions.read(options)

    @property
    def version(self) -> int:
        """Always 0: it has no policy."""
        return 0

    def load_policy(self, policy: PolicyRef) -> int:
        """Refuse. Raises BadRequest: it has no weights to swap."""
        raise BadRequest("oracle: it has no weights; only models.student takes a policy")

    async def chat(self, request: EngineRequest) -> Sequence[Completion]:
        """[n] answers. Raises ModelUnavailable for an image that plays an outage."""
        text, images = _first_user_turn(request)
        image = images[0]
        if chance(image, "outage") < self._options.outage_rate:
            kind, played = OUTAGES[pick(image, "kind of outage", size=len(OUTAGES))]
            raise kind(f"the oracle plays {played}")
        await asyncio.sleep(self._options.latency_s)
        asked, scene = read_prompt(text), self._truth.get(image)
        if asked.role in CHOOSERS:
            log_probs = CHOOSERS[asked.role](asked)
            errs = chance(text, asked.role) < self._options.error_rate
            return lettered(log_probs[::-1] if errs else log_probs, request, text)
        if request.logprobs or request.top_logprobs:
            raise BadRequest("oracle: as a writer it has no log-probabilities; ask without logprobs")
        if asked.role in ILLUSTRATORS:
            shown = [self._truth.get(each) for each in images]
            answers = [ILLUSTRATORS[asked.role](shown, asked)] * request.n
        else:
            answers = [ROLES[asked.role](Mind(image, scene, self._options, i), asked) for i in range(request.n)]
        if request.reply_schema is not None:
            _require_json(answers, asked.role)
        return tuple(_limited(answer, request) for answer in answers)


def _require_json(answers: Sequence[str], role: str) -> None:
    """The forms of a role's replies are its own; those that are JSON pass for what was asked."""
    if not all(answer.startswith("{") for answer in answers):
        raise BadRequest(f"response_format: the oracle's {role} replies in text here; ask without it")


def _limited(text: str, request: EngineRequest) -> Completion:
    """Apply stop strings and the length limit, a word counted as a token."""
    for stop in request.stop:
        text = text.partition(stop)[0] if stop else text
    words = text.split(" ")
    cut = len(words) > request.max_tokens
    return Completion(" ".join(words[: request.max_tokens]), finished=not cut)


def _first_user_turn(request: EngineRequest) -> tuple[str, list[str]]:
    """Text and SHA-256 of the images of the first user turn: later ones only complain about the reply.

    Without an image the text's own hash stands for it: no scene belongs to that.
    """
    turns = [(text, images) for role, text, images in request.messages if role == "user"]
    if not turns:
        raise BadRequest("oracle: messages hold no user turn")
    text, images = turns[0]
    return text, [hashlib.sha256(shown).hexdigest() for shown in images or (text.encode(),)]


def _read_truth(path: Path) -> dict[str, Scene]:
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {line["image"]: Scene.from_json(json.dumps(line["scene"])) for line in lines}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PoolError(f"oracle: {path} is no truth file ({error}); use source builtin:oracle") from error
