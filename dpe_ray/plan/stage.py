"""From a diagnosis to a plan. Pure: no model is asked, equal diagnoses give equal plans."""

from collections.abc import Collection, Mapping

from dpe_ray.config import PlanConfig
from dpe_ray.errors import PoolError
from dpe_ray.plan.instruction import instruction
from dpe_ray.plan.methods import METHODS, Evidence
from dpe_ray.plan.missing_skills import queries_by_cell, with_missing_skills
from dpe_ray.plan.mixture import mixture, permuted
from dpe_ray.plan.quota import largest_remainder
from dpe_ray.types import CellPlan, DataPlan, Diagnosis, Need


def make_plan(
    diagnosis: Diagnosis,
    config: PlanConfig,
    yields: Mapping[str, float] | None = None,
    taught: Collection[Need] = tuple(Need),
) -> DataPlan:
    """Weights by the method, quotas by largest remainder first over categories, then over the cells of each.

    Two levels, since the many small cells of a category would otherwise round its floor away. With a floor every cell
    gets at least one sample if the total allows it, else every category. `yields` is the share of each cell's
    candidates that lay in the pass-rate band so far, `taught` what training can meet (`teachable`). Raises PoolError
    for a diagnosis without cells.
    """
    diagnosis = with_missing_skills(diagnosis)
    if not diagnosis.cells:
        raise PoolError("the diagnosis has no cells; probe at least one item")
    raw = METHODS[config.method](Evidence(diagnosis.cells, diagnosis.errors, config.target, yields or {}, taught))
    if config.permute_seed is not None:
        raw = permuted(raw, config.permute_seed)
    categories = {c.cell: c.category for c in diagnosis.cells}
    weights = mixture(raw, categories, config.floor)
    quotas, queries = _quotas(weights, categories, config), queries_by_cell(diagnosis.errors)
    cells = tuple(
        CellPlan(
            c.category,
            c.skill,
            weights[c.cell],
            quotas[c.cell],
            instruction(c, queries.get(c.cell, ())),
            queries.get(c.cell, ()),
            c.need or Need.ELICITABLE,
        )
        for c in diagnosis.cells
    )
    return DataPlan(cells, config.total, round(config.replay * config.total))


def _quotas(weights: Mapping[str, float], category_of: Mapping[str, str], config: PlanConfig) -> dict[str, int]:
    members: dict[str, dict[str, float]] = {}
    for cell, weight in weights.items():
        members.setdefault(category_of[cell], {})[cell] = weight
    categories = {name: sum(cells.values()) for name, cells in members.items()}
    explored = int(config.floor > 0 and config.total >= len(categories))
    floor = max(int(min(config.floor, 1.0 / len(categories)) * config.total), explored)
    least = {name: max(floor, len(cells)) for name, cells in members.items()}
    each = int(explored and sum(least.values()) <= config.total)
    shares = largest_remainder(categories, config.total, least if each else floor)
    quotas: dict[str, int] = {}
    for name, cells in members.items():
        # a category of weight 0 (floor 0, nothing judged) has no cell to share among
        quotas |= largest_remainder(cells, shares[name], each) if categories[name] else dict.fromkeys(cells, 0)
    return quotas
