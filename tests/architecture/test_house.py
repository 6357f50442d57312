"""The house keeps its style; every check is shown a violation that it must report."""

from pathlib import Path

import pytest
from architecture.house_checks import broad_excepts, empty_tests, long_parts, prints, skipped_tests, swallowed_errors
from hypothesis import settings

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "dpe_ray", ROOT / "jobs"]
EVERYTHING = [*SOURCES, ROOT / "tests", ROOT / "benchmarks"]

RECORDING_BORDERS = {
    "models/vllm_core.py": "vLLM hands on what broke in its engine process as a plain Exception with its text",
    "runtime/daemon.py": "a background thread hands any error to the caller, who raises it",
    "runtime/data_map.py": "a worker or background thread hands any error to the driver, which raises it",
    "runtime/evolve.py": "a report that cannot be written must not hide the error that ended the run",
    "train/reward_process.py": "whatever the user's reward function raises is told to the trainer, which counts it",
    "train/tracking/tracking.py": "a tracker is a stranger's package; what it raises must not end a training",
    "runtime/session.py": "ray.init raises a bare Exception when its node does not come up in time",
}
SKIP_REASONS: dict[str, str] = {
    "unit/cluster/test_kuberay.py": "the published CRDs are no part of the project; CI has them beside the checkout",
}


def plant(tmp_path, source):
    (tmp_path / "planted.py").write_text(source)
    return tmp_path


@pytest.mark.parametrize("folder", EVERYTHING, ids=lambda folder: folder.name)
def test_files_and_functions_are_short(folder):
    assert long_parts(folder) == []


@pytest.mark.parametrize("folder", EVERYTHING, ids=lambda folder: folder.name)
def test_no_error_is_swallowed(folder):
    assert swallowed_errors(folder) == []


@pytest.mark.parametrize("folder", SOURCES, ids=lambda folder: folder.name)
def test_nothing_prints(folder):
    assert prints(folder) == []


@pytest.mark.parametrize("folder", EVERYTHING, ids=lambda folder: folder.name)
def test_errors_are_caught_by_name(folder):
    assert broad_excepts(folder, RECORDING_BORDERS) == []


def test_every_recording_border_exists():
    assert [path for path in RECORDING_BORDERS if not (ROOT / "dpe_ray" / path).exists()] == []


def test_no_test_skips_without_a_listed_reason():
    assert skipped_tests(ROOT / "tests", SKIP_REASONS) == []


def test_every_test_asserts_something_that_can_fail():
    assert empty_tests(ROOT / "tests") == []


def test_no_property_fails_because_the_machine_is_busy():
    assert settings().deadline is None


def test_a_long_file_and_a_long_function_are_reported(tmp_path):
    body = "\n".join(["def f():", *["    x = 1"] * 60, *["y = 2"] * 540, ""])
    assert len(long_parts(plant(tmp_path, body))) == 2


def test_a_print_is_reported(tmp_path):
    assert len(prints(plant(tmp_path, "print('here')"))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    f()\nexcept Exception as error:\n    log(error)",
        "try:\n    f()\nexcept:\n    log()",
        "try:\n    f()\nexcept (ValueError, BaseException):\n    log()",
        "import builtins\ntry:\n    f()\nexcept builtins.Exception:\n    log()",
        "import contextlib\nwith contextlib.suppress(Exception):\n    f()",
    ],
)
def test_a_broad_except_is_reported_unless_its_file_is_a_border(tmp_path, source):
    assert len(broad_excepts(plant(tmp_path, source), {})) == 1
    assert broad_excepts(tmp_path, {"planted.py": "a reason"}) == []


@pytest.mark.parametrize("nothing", ["pass", "...", "'it is fine'"])
def test_a_swallowed_error_is_reported(tmp_path, nothing):
    assert len(swallowed_errors(plant(tmp_path, f"try:\n    f()\nexcept ValueError:\n    {nothing}"))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import pytest\n@pytest.mark.skipif(True, reason='')\ndef test_a(): assert f()",
        "import pytest\n@pytest.mark.xfail\ndef test_a(): assert f()",
        "import pytest\nray = pytest.importorskip('ray')",
        "from pytest import skip\ndef test_a():\n    skip()",
    ],
)
def test_a_skip_is_reported_unless_its_file_has_a_reason(tmp_path, source):
    assert len(skipped_tests(plant(tmp_path, source), {})) == 1
    assert skipped_tests(tmp_path, {"planted.py": "a reason"}) == []


@pytest.mark.parametrize(
    "source",
    [
        "def test_a():\n    f()",
        "async def test_a():\n    await f()",
        "def test_a():\n    assert True",
        "def test_a():\n    assert (f(), 'never false')",
        "def test_a():\n    assert x == x",
    ],
)
def test_an_empty_test_is_reported(tmp_path, source):
    assert len(empty_tests(plant(tmp_path, source))) == 1


@pytest.mark.parametrize(
    "source", ["def test_a():\n    with raises(E):\n        f()", "def test_a():\n    assert_equal(1, f())"]
)
def test_raises_and_assert_functions_count_as_asserts(tmp_path, source):
    assert empty_tests(plant(tmp_path, source)) == []
