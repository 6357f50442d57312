import pytest
import ray

from dpe_ray.config import load_config
from dpe_ray.errors import ClusterError
from dpe_ray.runtime import session


def test_a_second_start_joins_the_first(ray_session):
    assert session.start() is False
    assert ray.cluster_resources()["CPU"] == 4


def test_what_does_not_fit_is_said_with_its_parts(ray_session):
    session.require({"models.student (1 x 0.25)": (0.25, 0.0), "train (1 x 1)": (1.0, 0.0)})
    with pytest.raises(ClusterError, match=r"6 CPUs \(models.big = 5, train = 1\) .* has 4: 2 are missing"):
        session.require({"models.big": (5.0, 0.0), "train": (1.0, 0.0)})
    with pytest.raises(ClusterError, match="GPU"):
        session.require({"models.big": (1.0, 1.0)})


def test_the_micro_job_fits_two_cpus():
    asked = session.asked_by(load_config("jobs/micro.yaml"))
    assert {name.split(" ")[0] for name in asked} == {"models.student", "models.teacher", "supply.workers", "train"}
    assert sum(cpus for cpus, _ in asked.values()) <= 2
