"""From a diagnosis to a plan. Pure: no model is asked, equal diagnoses give equal plans."""

from dpe_ray.config import PlanConfig
from dpe_ray.errors import PoolError
from dpe_ray.plan.instruction import instruction
from dpe_ray.plan.mixture import mixture
from dpe_ray.plan.quota import largest_remainder
from dpe_ray.types import CellPlan, DataPlan, Diagnosis


def make_plan(diagnosis: Diagnosis, config: PlanConfig) -> DataPlan:
    """Weights by tier, quotas by largest remainder first over categories, then over the cells of each.

    Two levels, since the many small cells of a category would otherwise round its floor away. With a floor every
    category gets at least one sample if the total allows it. Raises PoolError for a diagnosis without cells.
    """
    if not diagnosis.cells:
        raise PoolError("the diagnosis has no cells; probe at least one item")
    weights = mixture(diagnosis.cells, config.floor)
    quotas = _quotas(diagnosis, weights, config)
    cells = tuple(
        CellPlan(c.category, c.skill, weights[c.cell], quotas[c.cell], instruction(c)) for c in diagnosis.cells
    )
    return DataPlan(cells, config.total, round(config.replay * config.total))


def _quotas(diagnosis: Diagnosis, weights: dict[str, float], config: PlanConfig) -> dict[str, int]:
    members: dict[str, dict[str, float]] = {}
    for cell in diagnosis.cells:
        members.setdefault(cell.category, {})[cell.cell] = weights[cell.cell]
    categories = {name: sum(cells.values()) for name, cells in members.items()}
    floor = min(config.floor, 1.0 / len(categories))
    least = max(int(floor * config.total), 1 if floor and config.total >= len(categories) else 0)
    shares = largest_remainder(categories, config.total, least)
    quotas: dict[str, int] = {}
    for name, cells in members.items():
        # a category of weight 0 (floor 0, nothing judged) has no cell to share among
        quotas |= largest_remainder(cells, shares[name]) if categories[name] else dict.fromkeys(cells, 0)
    return quotas
