"""What goes wrong between this process and Serve is one clear error, whichever of Serve's functions breaks."""

import logging
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError
from ray.serve.exceptions import RayServeException

from dpe_ray.config import ModelConfig
from dpe_ray.errors import ClusterError
from dpe_ray.runtime import policy_board, serve_app
from dpe_ray.runtime.listening import Listen

MODELS = {"small": ModelConfig(source="/a/student", engine="transformers")}
BROKEN = [RayActorError(error_msg="the controller died"), RayServeException("no Serve"), TimeoutError("too slow")]


def breaks(error):
    def call(*_, **__):
        raise error

    return call


def nothing(*_, **__):
    return None


@pytest.fixture
def machine(monkeypatch):
    """A Ray without Serve, as seen by `serve_app`; Serve starts when it is asked to."""
    monkeypatch.setattr(serve_app, "_get_global_client", nothing)
    monkeypatch.setattr(serve_app, "on_head", lambda call, *arguments: call(*arguments))
    for name in ("forget", "remove"):
        monkeypatch.setattr(policy_board, name, nothing)
    for name in ("start", "run_many"):
        monkeypatch.setattr(serve_app.serve, name, nothing)
    monkeypatch.setattr(serve_app.serve, "status", lambda: SimpleNamespace(applications={}))
    return monkeypatch


@pytest.mark.parametrize("error", BROKEN)
def test_why_models_did_not_start_is_told_even_when_serve_gives_no_status(machine, error):
    machine.setattr(serve_app.serve, "run_many", breaks(RuntimeError("first line\nwhat broke first")))
    machine.setattr(serve_app.serve, "status", breaks(error))
    with pytest.raises(ClusterError, match=r"models small: cannot be served \(what broke first\)"):
        serve_app.serve_models(MODELS)


def test_an_address_that_nobody_can_listen_on_is_a_cluster_error(machine):
    with pytest.raises(ClusterError, match=r"cannot listen on 192\.0\.2\.1"):
        serve_app.serve_models(MODELS, listen=Listen("192.0.2.1", key="secret"))


@pytest.mark.parametrize("error", BROKEN)
def test_a_serve_that_cannot_be_asked_is_a_cluster_error(machine, error):
    machine.setattr(serve_app, "_get_global_client", breaks(error))
    with pytest.raises(ClusterError, match="Serve of this cluster cannot be asked"):
        serve_app.serve_models(MODELS)
    with pytest.raises(ClusterError, match="cannot be asked"), serve_app.serving(MODELS, prefix="run", ours=False):
        raise AssertionError("it serves")
    with pytest.raises(ClusterError, match="cannot be asked"):
        serve_app.require_key(Listen())


@pytest.mark.parametrize("error", BROKEN)
def test_a_serve_that_is_gone_at_the_end_does_not_hide_what_ended_the_run(machine, error, caplog):
    def run():
        with serve_app.serving(MODELS, prefix="run", ours=False):
            machine.setattr(serve_app, "_get_global_client", breaks(error))
            raise KeyError("what ended the run")

    with pytest.raises(KeyError, match="what ended the run"):
        run()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "run-small may still be there" in caplog.text


@pytest.mark.parametrize(("host", "url"), [
    ("127.0.0.1", "http://127.0.0.1:8000"), ("0.0.0.0", "http://127.0.0.1:8000"), ("10.0.0.7", "http://10.0.0.7:8000"),
])  # fmt: skip
def test_models_answer_where_a_serve_that_runs_already_listens(machine, host, url):
    client = SimpleNamespace(http_config=SimpleNamespace(host=host, port=8000))
    machine.setattr(serve_app, "_get_global_client", lambda **_: client)
    assert serve_app.serve_models(MODELS)["small"].url == f"{url}/small/v1"


@pytest.fixture
def engines(machine):
    """What the engines of the served models are told."""
    told = []
    machine.setattr(serve_app, "_target", lambda model, shell: told.append(shell[2]))
    return told


def test_the_revision_of_a_model_reaches_its_engine(engines):
    models = {
        "small": ModelConfig(source="hub/id", engine="transformers", revision="next", options={"device": "cpu"}),
        "other": ModelConfig(source="hub/id", engine="transformers"),
        "third": ModelConfig(source="hub/id", engine="echo", revision="v1"),
    }
    serve_app.serve_models(models, threads=2)
    assert engines == [
        ("transformers", "hub/id", {"threads": 2, "device": "cpu", "revision": "next"}),
        ("transformers", "hub/id", {"threads": 2, "device": "cpu"}),
        ("echo", "hub/id", {"revision": "v1"}),
    ]


@pytest.mark.parametrize(("engine", "reserved", "told"), [
    ("transformers", 1, {"threads": 1, "device": "cuda"}), ("transformers", 0.5, {"threads": 1, "device": "cuda"}),
    ("transformers", 0, {"threads": 1, "device": "cpu"}), ("vllm", 1, {"threads": 1}), ("echo", 1, {}),
])  # fmt: skip
def test_a_replica_computes_on_the_gpu_that_it_reserves(engines, engine, reserved, told):
    serve_app.serve_models({"small": ModelConfig(source="hub/id", engine=engine, num_gpus=reserved)})
    assert engines == [(engine, "hub/id", told)]
