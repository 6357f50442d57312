"""What `dpe-ray serve` asks for and refuses before any model is loaded."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from dpe_ray.config import load_config
from dpe_ray.errors import ClusterError, ConfigError
from dpe_ray.runtime import endpoints, head_node, serve_app, session
from dpe_ray.runtime.listening import Listen


@pytest.fixture
def config():
    return load_config("jobs/micro.yaml", ("models.student.source=/a/student", "models.teacher.source=/a/truth"))


@pytest.mark.parametrize(("given", "resolved"), [("jobs", str(Path("jobs").absolute())), ("hub/id", "hub/id")])
def test_a_model_of_this_directory_is_found_by_processes_elsewhere_and_a_hub_id_stays(tmp_path, given, resolved):
    config = load_config("jobs/micro.yaml", (f"models.student.source={given}", "models.teacher.source=/a/truth"))
    model = endpoints.resolve_models(config, tmp_path / "sources")["student"]
    assert model.source == serve_app.engine_arguments(model, 1)[1] == resolved


def interrupt(url):
    raise KeyboardInterrupt


def test_it_asks_for_the_models_that_it_serves_and_for_nothing_else(config):
    asked = session.asked_by_models(config)
    assert {name.split(" ")[0] for name in asked} == {"models.student", "models.teacher"}
    assert set(asked) < set(session.asked_by(config))


def test_a_machine_with_room_for_the_models_alone_can_serve(config, monkeypatch):
    class Models(Exception):
        pass

    def room_for_models(asked):
        if set(asked) != set(session.asked_by_models(config)):
            raise ClusterError("too small")

    def serving(*_, **__):
        raise Models

    monkeypatch.setattr(session, "start", lambda **_: True)
    monkeypatch.setattr(session, "stop", lambda: None)
    monkeypatch.setattr(session, "require", room_for_models)
    monkeypatch.setattr(serve_app, "_get_global_client", lambda **_: None)
    monkeypatch.setattr(head_node, "head_elsewhere", lambda: "")
    monkeypatch.setattr(serve_app, "serving", serving)
    with pytest.raises(Models):
        endpoints.serve_forever(config, Listen(), print)
    with pytest.raises(ClusterError, match="too small"), session.open(config):
        pass


def serve_on(host, monkeypatch):
    """A cluster of others whose Serve listens on `host`; any attempt to serve models there is an error."""
    client = SimpleNamespace(http_config=SimpleNamespace(host=host, port=8000))
    monkeypatch.setattr(session, "open", lambda *_: nullcontext(False))
    monkeypatch.setattr(serve_app, "_get_global_client", lambda **_: client)
    monkeypatch.setattr(head_node, "head_elsewhere", lambda: "10.0.0.7")


def test_where_others_reach_serve_a_key_is_demanded_before_any_model_is_loaded(config, monkeypatch):
    serve_on("0.0.0.0", monkeypatch)
    monkeypatch.setattr(serve_app.serve, "start", None)
    with pytest.raises(ConfigError, match=r"listens on 0\.0\.0\.0.*--api-key-env"):
        endpoints.serve_forever(config, Listen(), print)


@pytest.mark.parametrize(("host", "key"), [("127.0.0.1", ""), ("0.0.0.0", "secret")])
def test_loopback_needs_no_key_and_a_key_is_enough(config, monkeypatch, host, key):
    serve_on(host, monkeypatch)
    served, told, asked = {"student": serve_app.Served("run-student", "http://it/v1")}, [], []
    monkeypatch.setattr(serve_app, "serving", lambda *_, **__: nullcontext(served))
    monkeypatch.setattr(head_node, "on_head", lambda call, url: asked.append((call, url)))
    monkeypatch.setattr(endpoints.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        endpoints.serve_forever(config, Listen(key=key), told.append)
    assert told == ["student: http://it/v1 on the head node, 10.0.0.7"]
    assert asked == [(endpoints.wait_until_ready, "http://it/v1")]
