"""Pages from templates: everything that is filled in is escaped, numbers are written in one way."""

from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from dpe_ray.rounds import findings


def page(name: str) -> Template:
    """Load a template of this package; a value that nobody gives is an error."""
    environment = Environment(
        loader=FunctionLoader(_source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=_percent, points=_points, count=_count, duration=_duration, usd=_usd)
    environment.filters.update(reasons=findings.reasons, lacking=findings.lacking)
    return environment.get_template(name)


def _source(name: str) -> str:
    return (files("dpe_ray.rounds") / name).read_text(encoding="utf-8")


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}\u00a0%"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _usd(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
