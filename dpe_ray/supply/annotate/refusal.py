"""How a slot ends without a sample: a gate's refusal, or a failure that belongs to this slot alone."""

from dpe_ray.errors import BadReply, BadRequest, BudgetExceeded, DpeError, ModelUnavailable, PoolError


class Refused(DpeError):
    """A gate said no: ends the slot, or the attempt."""

    def __init__(self, gate: str, reason: str) -> None:
        super().__init__(gate, reason)
        self.gate, self.reason = gate, reason


GATE_OF: dict[type[DpeError], str] = {
    ModelUnavailable: "outage",
    BadReply: "unparsable",
    BadRequest: "refused_by_endpoint",
    BudgetExceeded: "budget",
    PoolError: "image",
}
"""Failures that belong to one slot. Any other error breaks the stage."""
SLOT_ERRORS: tuple[type[DpeError], ...] = (Refused, *GATE_OF)


def require(gate: str, reason: str | None) -> None:
    """Raise Refused when a gate gave a reason."""
    if reason is not None:
        raise Refused(gate, reason)


def told(error: DpeError) -> tuple[str, str]:
    """Gate and reason of one of `SLOT_ERRORS`."""
    if isinstance(error, Refused):
        return error.gate, error.reason
    return next(gate for kind, gate in GATE_OF.items() if isinstance(error, kind)), str(error)
