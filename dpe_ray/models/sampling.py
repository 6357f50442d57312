"""What engines have in common: which requests they take, and what each prompt of a rollout batch is seeded with."""

from collections.abc import Sequence

from dpe_ray.errors import BadRequest
from dpe_ray.ports import MAX_TOP_LOGPROBS, EngineRequest
from dpe_ray.seeds import child_seed
from dpe_ray.types import Prompt


def check_request(request: EngineRequest, limit: int) -> None:
    """Raise BadRequest, one line that begins with the parameter; `limit` is the most completions of a request."""
    for wrong, name, right in (
        (not 1 <= request.n <= limit, "n", f"1 to {limit}"),
        (not 0 <= request.temperature <= 10, "temperature", "0 to 10"),
        (not 0 < request.top_p <= 1, "top_p", "above 0, up to 1"),
        (request.max_tokens < 1, "max_tokens", "at least 1"),
        (not 0 <= request.top_logprobs <= MAX_TOP_LOGPROBS, "top_logprobs", f"0 to {MAX_TOP_LOGPROBS}"),
    ):
        if wrong:
            raise BadRequest(f"{name}: must be {right}")


def rollout_seeds(prompts: Sequence[Prompt], seed: int | Sequence[int]) -> list[int]:
    """[P] What each prompt is seeded with; `seed` is that of all of them, or the seeds that this gave for them before.

    One seed becomes P by what the prompts ask and how often they did before, not by where they stand. Who splits them
    asks for the seeds of the whole first: within its part, a prompt that is asked again looks like the first.
    """
    if not isinstance(seed, int):
        return list(seed)
    times: dict[tuple[str, str], int] = {}
    seeds = []
    for prompt in prompts:
        asked = prompt.sample.id, prompt.text
        times[asked] = times.get(asked, 0) + 1
        seeds.append(child_seed(seed, *asked, times[asked]))
    return seeds
