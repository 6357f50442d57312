"""The program and the YAML that the README shows are run as they stand there."""

import re
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import yaml

from dpe_ray.config import SupplyConfig
from dpe_ray.supply.annotate.refusal import Refused
from dpe_ray.supply.construct.maker import Recipe, construct
from dpe_ray.supply.construct.order import fitting
from dpe_ray.supply.construct.registry import load_programs

README = (Path(__file__).parents[4] / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """The programs of the README's YAML, its own one in the file that it names."""
    code = re.search(r"```python\n(# (own/\w+\.py)\n.*?)```", README, re.DOTALL)
    told = next(text for text in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "construct:" in text)
    (tmp_path / "own").mkdir()
    (tmp_path / code[2]).write_text(code[1])
    monkeypatch.chdir(tmp_path)
    return load_programs(SupplyConfig(**yaml.safe_load(told)["supply"]).construct.programs)


def test_the_program_of_the_readme_draws_samples_that_its_checker_confirms(shown, workshop):
    candles = shown["candles"]
    for seed in range(40):
        params = candles.sample("count_candles", seed / 40, Random(seed))
        sample = construct(candles, Recipe("candles", params, seed), workshop.shelf, "everyday_object")
        assert sample.options[sample.letters.index(sample.answer.value)] == str(params.candles)


def test_its_checker_refuses_an_answer_that_the_picture_does_not_show(shown, workshop, monkeypatch):
    candles, make = shown["candles"], type(shown["candles"]).make
    params = candles.sample("count_candles", 0.5, Random(1))
    said = str(params.candles + 1)
    monkeypatch.setattr(type(candles), "make", lambda *args: replace(make(*args), answer=said))
    with pytest.raises(Refused) as refused:
        construct(candles, Recipe("candles", params, 1), workshop.shelf, "everyday_object")
    assert refused.value.gate == "check"


def test_a_cell_finds_it_by_the_words_of_its_skill(shown):
    assert fitting(list(shown.values()), "counting_candles") == [(shown["candles"], "count_candles")]
