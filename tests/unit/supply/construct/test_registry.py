import pickle
import textwrap
from random import Random

import pytest

from dpe_ray.errors import ConfigError
from dpe_ray.supply.construct.maker import Recipe, construct
from dpe_ray.supply.construct.registry import BUILTIN, load_programs

OWN = """
from typing import Literal
from PIL import Image
from dpe_ray.supply.construct.program import Params, Program
from dpe_ray.supply.construct.task import Task
from dpe_ray.types import AnswerKind

class GreyParams(Params):
    ask: Literal["name_shade"]
    shade: Literal["black", "white"]

class Grey(Program[GreyParams]):
    name = "grey"
    summary = "One shade."
    categories = ("natural_scene",)
    params = GreyParams

    def sample(self, ask, difficulty, rng):
        return GreyParams(ask=ask, shade=rng.choice(("black", "white")))

    def make(self, params, rng, base):
        other = "white" if params.shade == "black" else "black"
        picture = Image.new("RGB", (64, 64), params.shade)
        return Task(picture, "Which shade?", params.shade, AnswerKind.TEXT, "All over.", (other,))

    def check(self, params, shown):
        return "black" if shown.pixels.mean() < 128 else "white"

class Half(Program[GreyParams]):
    name = "half"

class Far(Grey):
    name, difficulty = "far", (0.0, 2.0)

class Unchecked(Program[GreyParams]):
    name, summary, categories, params = "unchecked", "No checker.", ("map",), GreyParams
    sample, make = Grey.sample, Grey.make

class Loose(Grey):
    params = {"ask": "name_shade"}

class Twin(Grey):
    name = "bar_chart"

not_a_program = 3
"""
UNREADY = """
from dpe_ray.supply.construct.program import Params

class GreyParams(Params):
    ask = "name_shade"
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(textwrap.dedent(OWN))
    return path


def test_without_names_all_built_in_programs_are_loaded():
    assert list(load_programs()) == list(BUILTIN)


def test_named_programs_are_loaded_in_order():
    assert list(load_programs(("triangle", "bar_chart"))) == ["triangle", "bar_chart"]


def test_a_program_of_the_users_own_is_a_file_and_a_class(own, workshop):
    program = load_programs((f"{own}:Grey",))["grey"]
    params = program.sample("name_shade", 0.5, Random(0))
    sample = construct(program, Recipe("grey", params, 1), workshop.shelf, "natural_scene")
    assert set(sample.options) == {"black", "white"}
    assert pickle.loads(pickle.dumps(params)) == params


def test_loading_a_file_twice_gives_the_same_classes(own):
    one, other = (load_programs((f"{own}:Grey",))["grey"] for _ in range(2))
    assert type(one) is type(other)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nothing", "is no program"),
        ("nowhere.py:Grey", "is no file"),
        ("OWN:not_a_program", "is no program"),
        ("OWN:Missing", "is no program"),
        ("OWN:Half", "lacks"),
        ("OWN:Far", "difficulty"),
        ("OWN:Unchecked", "lacks check"),
        ("OWN:Loose", "params must be a Params"),
    ],
)
def test_what_is_no_program_is_refused_in_one_line(own, name, told):
    with pytest.raises(ConfigError, match=told) as error:
        load_programs((name.replace("OWN", str(own)),))
    assert "\n" not in str(error.value)


def test_two_programs_of_one_name_are_refused(own):
    with pytest.raises(ConfigError, match="two programs"):
        load_programs(("bar_chart", f"{own}:Twin"))


@pytest.mark.parametrize("source", ["def (", "import nowhere_at_all", "raise ValueError('no')", "[][1]", UNREADY])
def test_a_file_that_does_not_load_is_refused(tmp_path, source):
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(ConfigError, match="cannot be loaded") as error:
        load_programs((f"{path}:Grey",))
    assert "\n" not in str(error.value)
