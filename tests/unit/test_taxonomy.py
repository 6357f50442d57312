from pathlib import Path

import pytest

from dpe_ray.errors import ConfigError
from dpe_ray.taxonomy import ERROR_TYPES, known_name, load_taxonomy


def test_the_default_is_the_twelve_categories_of_dpe() -> None:
    assert len(load_taxonomy().categories) == 12
    assert {"geometric", "medical", "chart_graph", "mixed"} <= set(load_taxonomy().categories)
    assert len(ERROR_TYPES) == 5


def test_a_file_of_the_user_may_list_skills(tmp_path: Path) -> None:
    path = tmp_path / "taxonomy.yaml"
    path.write_text("map: [find_north, 3]\nplant:\n")
    assert load_taxonomy(str(path)).skills == {"map": ("find_north", "3"), "plant": ()}


@pytest.mark.parametrize("text", ["[map]", "map: north", "a: b: c"])
def test_anything_but_a_mapping_of_lists_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "taxonomy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="taxonomy"):
        load_taxonomy(str(path))


def test_a_name_that_stands_is_taken_before_one_that_is_alike() -> None:
    assert known_name("a_b/c", ["a/b_c", "a_b/c"]) == "a_b/c"
    assert known_name("A B/C", ["a/b_c", "a_b/c"]) == "", "either may be meant"
    assert known_name("A/B c", ["a/b_c", "x/y"]) == "a/b_c"
    assert known_name("", ["a/b_c"]) == ""


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_taxonomy(str(tmp_path / "gone.yaml"))
