"""The solver: works the question out blind, and the student, whose pass rate says how hard it is.

Both see the plain answer prompt of the sample and nothing of how it was made.
"""

from dataclasses import dataclass

from dpe_ray.grading.prompt import ANSWER_VERSION, answer_prompt
from dpe_ray.grading.rules import grade
from dpe_ray.ports import ChatModel, ChatRequest, Message
from dpe_ray.supply.annotate.agent import Counted, Tally
from dpe_ray.types import Difficulty, Sample, content_id


@dataclass(frozen=True)
class Solver:
    """Answers a sample as a stranger to it."""

    role: str
    """solver or student."""
    model: ChatModel
    temperature: float
    max_tokens: int
    seed: int = 0
    """Of the run; each sample derives its own from it."""

    async def solve(self, sample: Sample, n: int, tally: Tally) -> tuple[bool, ...]:
        """[n] Whether an answer agrees with the sample's. One call; what cannot be parsed disagrees."""
        message = Message("user", answer_prompt(sample).text, sample.images)
        seed = int(content_id(self.seed, sample.id, self.role)[:7], 16)
        request = ChatRequest(
            (message,),
            self.role,
            sample.id,
            ANSWER_VERSION,
            n=n,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=seed,
        )
        reply = await Counted(self.model, tally).chat(request)
        return tuple(grade(sample, text).correct for text in reply.texts)


async def measure_difficulty(student: Solver, sample: Sample, n: int, policy_version: int, tally: Tally) -> Difficulty:
    """Share of `n` sampled answers that are right; unparsable ones count as wrong."""
    right = await student.solve(sample, n, tally)
    return Difficulty(sum(right) / len(right), len(right), policy_version)
