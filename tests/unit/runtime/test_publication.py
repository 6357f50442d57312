"""Every replica takes a policy that is published, or the one before it stays."""

import logging
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, RayActorError, RayError
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException
from tenacity import nap

from dpe_ray.errors import ClusterError
from dpe_ray.runtime import policy_board, publication
from dpe_ray.runtime.publication import publish
from dpe_ray.types import PolicyRef

OLD, NEW = (PolicyRef("/a/student", version=version) for version in (2, 3))
BROKEN = [RayActorError(error_msg="the controller died"), RayServeException("no Serve"), TimeoutError("too slow")]


class FakeServe:
    """One app: its board, its replicas as Serve tells them, and those that a handle knows. Sleeping takes no time."""

    def __init__(self):
        self.board = {"app": OLD}
        self.replicas = {name: replica("RUNNING") for name in ("one", "two")}
        self.known = [["one", "two"]]
        self.answers = {}
        self.asked = []
        self.now = 0.0
        self.later = []

    def get_serve_details(self):
        replicas = [{"replica_id": name, **told} for name, told in self.replicas.items()]
        return {"applications": {"app": {"deployments": {"ChatApp": {"replicas": replicas}}}}}

    def broadcast(self, method, policy):
        assert method == "load_policy"
        known = self.known.pop(0) if len(self.known) > 1 else self.known[0]
        self.asked.append(known)
        if not known:
            raise DeploymentUnavailableError("app")
        answers = [self.answers.get(name, (name, policy.version)) for name in known]
        return SimpleNamespace(results=lambda return_exceptions: answers)

    def write_down(self, app, policy):
        self.board[app] = policy

    def sleep(self, seconds):
        self.now += seconds
        if self.later:
            self.replicas.update(self.later.pop(0))


def replica(state, node_id="a"):
    return {"state": state, "node_id": node_id}


@pytest.fixture
def app(monkeypatch):
    fake = FakeServe()
    monkeypatch.setattr(publication, "_get_global_client", lambda: fake)
    monkeypatch.setattr(publication.serve, "get_app_handle", lambda app: fake)
    monkeypatch.setattr(publication, "time", SimpleNamespace(sleep=fake.sleep, monotonic=lambda: fake.now))
    monkeypatch.setattr(nap.time, "sleep", fake.sleep)
    monkeypatch.setattr(policy_board, "published", fake.board.get)
    monkeypatch.setattr(policy_board, "write_down", fake.write_down)
    return fake


def test_a_policy_for_an_app_that_is_not_there_is_a_cluster_error_and_is_written_nowhere(app):
    with pytest.raises(ClusterError, match=r"app nobody: policy 3 was not loaded \(it is not served\)"):
        publish("nobody", NEW)
    assert app.board == {"app": OLD}


@pytest.mark.parametrize("error", BROKEN)
def test_a_policy_that_serve_cannot_pass_on_is_a_cluster_error(app, monkeypatch, error):
    def breaks(*_):
        raise error

    monkeypatch.setattr(app, "broadcast", breaks)
    with pytest.raises(ClusterError, match="policy 3 was not loaded") as caught:
        publish("app", NEW)
    assert not isinstance(caught.value, RayError)
    assert app.board == {"app": OLD}


@pytest.mark.parametrize("former", [OLD, None], ids=["published", "source"])
@pytest.mark.parametrize("answer", [RuntimeError("no such folder"), ("two", 2)], ids=["refused", "another"])
def test_a_policy_that_one_replica_does_not_take_leaves_the_former_one_for_later_replicas(app, former, answer):
    app.board["app"], app.answers["two"] = former, answer
    with pytest.raises(ClusterError, match=r"policy 3 was not loaded \((no such folder|.* \[2\] instead of 3)\)"):
        publish("app", NEW)
    assert app.board == {"app": former}


def test_a_policy_that_all_take_is_there_for_later_replicas(app):
    publish("app", NEW)
    assert app.board == {"app": NEW}
    assert app.asked == [["one", "two"]]


def test_a_board_that_cannot_be_put_back_does_not_hide_why_the_policy_was_refused(app, monkeypatch, caplog):
    def write_down(name, policy):
        if policy == OLD:
            raise RayError("no board")

    monkeypatch.setattr(policy_board, "write_down", write_down)
    app.answers["one"] = RuntimeError("no such folder")
    with pytest.raises(ClusterError, match="no such folder"):
        publish("app", NEW)
    assert "no board" in caplog.text


@pytest.mark.parametrize("known", [["two"], []], ids=["some", "all"])
def test_a_replica_that_runs_and_was_left_out_is_asked_again(app, known):
    app.known = [known, known, ["one", "two"]]
    publish("app", NEW)
    assert app.asked == [known, known, ["one", "two"]]


def test_a_replica_that_runs_and_never_answers_is_a_cluster_error(app):
    app.known = [["two"]]
    with pytest.raises(ClusterError, match="1 of its replicas did not answer"):
        publish("app", NEW)
    assert 20 < app.now < 30
    assert app.board == {"app": OLD}


def test_a_replica_that_dies_under_the_question_is_waited_for_until_serve_has_replaced_it(app):
    app.answers["two"] = ActorDiedError()
    app.known = [["one", "two"], ["one", "three"]]
    app.later = [{"two": replica("STOPPING"), "three": replica("STARTING")}, {"three": replica("RUNNING")}]
    publish("app", NEW)
    assert app.asked == [["one", "two"], ["one", "three"]]


def test_an_app_that_vanishes_while_its_replicas_start_is_a_cluster_error(app, monkeypatch):
    app.replicas["two"] = replica("STARTING")
    gone = {"applications": {}}
    monkeypatch.setattr(app, "sleep", lambda _: monkeypatch.setattr(app, "get_serve_details", lambda: gone))
    monkeypatch.setattr(publication.time, "sleep", app.sleep)
    with pytest.raises(ClusterError, match="it is not served"):
        publish("app", NEW)


def test_a_replica_that_loads_is_waited_for_as_it_may_have_read_the_board_before(app):
    app.replicas["three"] = replica("STARTING")
    app.known = [["one", "two", "three"]]
    app.later = [{}, {"three": replica("RUNNING")}]
    publish("app", NEW)
    assert app.asked == [["one", "two", "three"]]
    assert app.now > 0


def test_a_replica_that_loads_for_minutes_holds_nobody_up_for_ever(app, caplog):
    app.replicas["three"] = replica("STARTING")
    publish("app", NEW)
    assert 60 < app.now < 62
    assert "1 replicas still start" in caplog.text


@pytest.mark.parametrize("waits", [replica("STARTING", None), {"state": "STARTING"}])
def test_a_replica_that_finds_no_room_holds_nobody_up(app, waits, caplog):
    caplog.set_level(logging.INFO)
    app.replicas["three"] = waits
    publish("app", NEW)
    assert app.now == 0
    assert "1 replicas wait for room" in caplog.text


def test_a_replica_that_serve_has_lost_sight_of_is_waited_for(app):
    app.replicas["two"] = replica("RECOVERING", None)
    app.later = [{}, {"two": replica("RUNNING")}]
    publish("app", NEW)
    assert app.now > 0
