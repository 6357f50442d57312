import os
from pathlib import Path

import pytest

from dpe_ray.config import ModelConfig, Workers
from dpe_ray.micro.student import build_model, build_processor, save_student
from dpe_ray.runtime import session
from dpe_ray.runtime.listening import wait_until_ready

session.prepare_environment(throw_away_token=True)  # before any test module imports ray


@pytest.fixture(scope="session")
def ray_session(tmp_path_factory):
    """A local Ray with 4 logical CPUs, for all tests of the process, on which a package with an engine is installed."""
    installed = install_echo_engine(tmp_path_factory.mktemp("installed"))
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{installed}{os.pathsep}{before}" if before else str(installed)  # workers inherit it
    session.start(num_cpus=4, object_store_mb=150)
    yield
    session.stop()
    os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="session")
def student(tmp_path_factory):
    """Directory of a random micro student."""
    folder = tmp_path_factory.mktemp("student")
    processor = build_processor(["What colour has the shape ? red blue green answer: 1. 2."])
    save_student(build_model(processor, seed=0), processor, folder)
    return str(folder)


@pytest.fixture(scope="session")
def student_url(ray_session, student):
    """Two replicas of it, served once for all tests of the process as `student`; who publishes to it sets it back."""
    from dpe_ray.runtime import serve_app

    model = ModelConfig(source=student, engine="transformers", replicas=Workers(min=2, max=2), num_cpus=0.25)
    url = serve_app.serve_models({"student": model})["student"].url
    wait_until_ready(url)
    return url


def install_echo_engine(folder: Path) -> Path:
    """Lay out what `pip install` would: the module, and its entry point."""
    (folder / "echo_engine.py").write_text(Path(__file__).with_name("echo_engine.py").read_text())
    about = folder / "echo_engine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: echo-engine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[dpe_ray.engines]\necho = echo_engine:EchoEngine\n")
    return folder
