"""How the terms of single tokens become one loss over all micro-batches and ranks of an update.

    sequence    mean over sequences of the mean over their tokens              GRPO, arXiv 2402.03300 eq. 3
    token       sum over all tokens / all tokens of the update                 DAPO, arXiv 2503.14476 section 3.3
    constant    sum over all tokens / (sequences x longest completion allowed)   Dr. GRPO, arXiv 2503.20783

In TRL these are the loss types `grpo`, `dapo` and `dr_grpo`.

`sequence` gives a token of a short completion more weight than one of a long completion; the others do not.
"""

from torch import Tensor


def denominator(how: str, sequences: float, tokens: float, max_tokens: int) -> float:
    """What `summed` is divided by, at least 1; `sequences` and `tokens` are those of the whole update on all ranks."""
    sizes = {"sequence": sequences, "token": tokens, "constant": sequences * max_tokens}
    return max(sizes[how], 1.0)


def summed(token_loss: Tensor, mask: Tensor, how: str) -> Tensor:
    """Sum [B, T] terms over tokens with mask 1, a mean per sequence where `how` is sequence; a scalar."""
    per_sequence = (token_loss * mask).sum(dim=1)
    if how == "sequence":
        per_sequence = per_sequence / mask.sum(dim=1).clamp(min=1)
    return per_sequence.sum()
