"""Which programs there are: the built-in ones by name, a user's own by `path/to/file.py:ClassName`."""

import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpe_ray.errors import ConfigError
from dpe_ray.supply.construct.program import Params, Program
from dpe_ray.supply.construct.programs.arrow_graph import ArrowGraph
from dpe_ray.supply.construct.programs.bar_chart import BarChart
from dpe_ray.supply.construct.programs.city_map import CityMap
from dpe_ray.supply.construct.programs.ecg_strip import EcgStrip
from dpe_ray.supply.construct.programs.floor_plan import FloorPlan
from dpe_ray.supply.construct.programs.formula import Formula
from dpe_ray.supply.construct.programs.missing_patch import MissingPatch
from dpe_ray.supply.construct.programs.number_table import NumberTable
from dpe_ray.supply.construct.programs.shape_count import ShapeCount
from dpe_ray.supply.construct.programs.sticker_count import StickerCount
from dpe_ray.supply.construct.programs.tile_pattern import TilePattern
from dpe_ray.supply.construct.programs.triangle import Triangle
from dpe_ray.supply.construct.programs.wall_clock import WallClock

AnyProgram = Program[Any]

PROGRAMS_KEY = "supply.construct.programs"
"""Where a config names them: what every complaint begins with."""

BUILTIN: dict[str, type[AnyProgram]] = {
    kind.name: kind
    for kind in (
        BarChart, NumberTable, Triangle, ShapeCount, ArrowGraph, Formula, CityMap, WallClock, FloorPlan, TilePattern,
        EcgStrip, StickerCount, MissingPatch,
    )
}  # fmt: skip
LOADING_ERRORS = (
    SyntaxError, ImportError, NameError, AttributeError, ArithmeticError, AssertionError, LookupError, OSError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What a user's file may raise while it is read; pydantic's complaints about a class are RuntimeErrors."""


def load_programs(wanted: Sequence[str] = ()) -> dict[str, AnyProgram]:
    """Programs by name: those that are named, all built-in ones when none is.

    A user's file is run as it is: naming it is the user's word that it may be. It must be readable where the workers
    are. Raises ConfigError, with what to mend, for anything that is no program, and for two of one name.
    """
    programs: dict[str, AnyProgram] = {}
    for name in wanted or tuple(BUILTIN):
        program = _checked(name, _from_file(name) if ":" in name else BUILTIN.get(name))
        if program.name in programs:
            raise ConfigError(f"{PROGRAMS_KEY}: two programs are named {program.name}; rename one")
        programs[program.name] = program
    return programs


def _from_file(address: str) -> object:
    path, _, name = address.rpartition(":")
    if not Path(path).is_file():
        raise ConfigError(f"{PROGRAMS_KEY}: {path} is no file; give path/to/file.py:ClassName")
    # named by its content: pydantic and pickle look classes up in the module that they were made in
    module_name = f"dpe_ray_program_{hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        if spec is None or spec.loader is None:
            raise ConfigError(f"{PROGRAMS_KEY}: {path} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except LOADING_ERRORS as error:
            del sys.modules[module_name]
            raise ConfigError(f"{PROGRAMS_KEY}: {path} cannot be loaded ({' '.join(str(error).split())})") from error
    return getattr(sys.modules[module_name], name, None)


def _checked(name: str, kind: object) -> AnyProgram:
    where = f"{PROGRAMS_KEY}: {name}"
    if not (isinstance(kind, type) and issubclass(kind, Program)):
        known = ", ".join(BUILTIN)
        raise ConfigError(f"{where} is no program; give {known} or path/to/file.py:ClassName of a Program")
    missing = [part for part in ("name", "summary", "categories", "params") if not hasattr(kind, part)]
    if missing or kind.__abstractmethods__:
        raise ConfigError(f"{where} lacks {', '.join([*missing, *sorted(kind.__abstractmethods__)])}")
    program: AnyProgram = kind()
    has_params = isinstance(program.params, type) and issubclass(program.params, Params)
    if not has_params or not program.skills:
        raise ConfigError(f"{where}: params must be a Params whose `ask` is a Literal of its skills")
    low, high = program.difficulty
    if not program.categories or not 0 <= low <= high <= 1:
        raise ConfigError(f"{where}: needs a category and a difficulty range within 0-1")
    return program
