"""Engines behind Serve are told to give their GPU back, all of them, and others are left alone."""

from dpe_ray.config import ModelConfig, Workers
from dpe_ray.runtime import serve_app
from dpe_ray.runtime.shared_gpu import doze


def test_every_replica_is_told_to_sleep_and_an_engine_that_cannot_is_left_alone(ray_session, student_url, tmp_path):
    two, diary = Workers(min=2, max=2), tmp_path / "diary"
    echo = ModelConfig(source="any", engine="echo", num_cpus=0.1, replicas=two, options={"diary": str(diary)})
    serve_app.serve_models({"dozing": echo})
    try:
        doze("dozing")
        assert len(set(diary.read_text().split())) == 2
        doze("student")
    finally:
        serve_app.take_down(["dozing"])
