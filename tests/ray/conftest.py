import pytest

from dpe_ray.runtime import session

session.prepare_environment(throw_away_token=True)  # before any test module imports ray


@pytest.fixture(scope="session")
def ray_session():
    """A local Ray with 4 logical CPUs, for all tests of the process."""
    session.start(num_cpus=4, object_store_mb=150)
    yield
    session.stop()
