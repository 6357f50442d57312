"""What calls of a model cost: the one way in which money is counted, by the ledger and by budgets."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Price:
    """US dollars: `input` and `output` per million tokens, `image` per thousand images sent."""

    input: float = 0.0
    output: float = 0.0
    image: float = 0.0

    def usd(self, prompt_tokens: int, completion_tokens: int, images: int) -> float:
        """US dollars of one call, or of several whose amounts are summed."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6 + images * self.image / 1e3
