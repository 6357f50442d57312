"""One small run on the micro world, with a teacher that errs and drops out: made once, looked at by many tests."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from command_line import command_line

from dpe_ray.micro.sources import materialise
from dpe_ray.runtime import session

session.prepare_environment(throw_away_token=True)  # before any test module imports ray

PER_CATEGORY = {"probe": 6, "gate": 8, "final": 8}


def few_of_each(source: Path, target: Path, count: int) -> str:
    """The first `count` items of every category, as a labelled set of its own."""
    taken: dict[str, list[dict]] = {}
    for row in pq.read_table(source).to_pylist():
        rows = taken.setdefault(row["category"], [])
        if len(rows) < count:
            rows.append(row)
    rows = [row for rows in taken.values() for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), target)
    return str(target)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """The micro world and small suites cut from it."""
    folder = tmp_path_factory.mktemp("world")
    sets = materialise(folder)
    suites = {
        name: few_of_each(sets / f"{name}.parquet", folder / f"{name}.parquet", n) for name, n in PER_CATEGORY.items()
    }
    return {
        "truth": str(sets / "truth.jsonl"),
        "pool": str(sets / "pool"),
        "support": str(sets / "support.parquet"),
        **suites,
    }


@pytest.fixture(scope="module")
def own_ray():
    """A local Ray with 4 logical CPUs in this process, for one module: other modules start theirs as a user does."""
    session.start(num_cpus=4, object_store_mb=150)
    yield
    session.stop()


@pytest.fixture(scope="session")
def small_yaml(world, tmp_path_factory):
    """The micro job, cut down to a minute: same preset, same code path."""
    tree = yaml.safe_load(Path("jobs/micro.yaml").read_text())
    tree["models"]["teacher"] = {
        "source": world["truth"],
        "engine": "oracle",
        "options": {"error_rate": 0.1, "outage_rate": 0.1},
        "retries": 1,
    }
    tree["pool"]["source"], tree["support"]["source"] = world["pool"], world["support"]
    tree["probe"] = {"source": world["probe"], "size": 60}
    tree["decision"] = {"suite": world["gate"], "margin": 0.05}
    tree["final"] = [{"suite": world["final"]}]
    tree["plan"] = {"total": 24, "replay": 0.25}
    tree["train"] |= {"steps": 2, "prompts_per_step": 8}
    file = tmp_path_factory.mktemp("job") / "small.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


@pytest.fixture(scope="session")
def finished(small_yaml, tmp_path_factory):
    """(run directory, finished process) of the small run."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    return folder, command_line("run", small_yaml, "--run-dir", folder)
