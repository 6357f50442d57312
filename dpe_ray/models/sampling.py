"""What engines have in common: which requests they take, and what each prompt of a rollout batch is seeded with."""

from collections.abc import Iterator, Sequence

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


def rollout_seeds(prompts: Sequence[Prompt], seed: int) -> Iterator[int]:
    """Per prompt, by what it asks and not by where it stands: a split over replicas draws the same."""
    times: dict[tuple[str, str], int] = {}
    for prompt in prompts:
        asked = prompt.sample.id, prompt.text
        times[asked] = times.get(asked, 0) + 1
        yield child_seed(seed, *asked, times[asked])
