import contextlib
import http.server
import pickle
import socket
import threading

import pytest

from dpe_ray.errors import ClusterError, ConfigError
from dpe_ray.runtime import listening
from dpe_ray.runtime.listening import Listen, free_port, may_enter, wait_until_ready


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "some-host"])
def test_only_loopback_needs_no_key(host):
    with pytest.raises(ConfigError, match="--api-key-env"):
        Listen(host).check("")
    with pytest.raises(ConfigError, match=r"\$KEY is empty"):
        Listen(host).check("KEY")
    assert Listen(host, key="secret").check("KEY") is None
    assert Listen("127.0.0.1").check("") is None
    with pytest.raises(ConfigError, match=r"\$KEY is empty"):
        Listen("127.0.0.1").check("KEY")


def test_a_door_opens_to_its_key_alone_and_does_not_hold_it():
    door = Listen(key="secret").door
    assert may_enter(door, "Bearer secret")
    assert may_enter(door, "bearer secret")
    for given in ("", "secret", "Bearer", "Bearer wrong", "Basic secret", "Bearer secret2", "Bearer \u00e9"):
        assert not may_enter(door, given)
    assert b"secret" not in pickle.dumps(door)


def test_without_a_key_everybody_may_enter_on_loopback_and_nobody_where_others_reach_it():
    assert may_enter(Listen().door, "")
    assert may_enter(Listen().door, "Bearer none")
    closed = Listen("0.0.0.0").door
    for given in ("", "Bearer", "Bearer none", f"Bearer {closed}"):
        assert not may_enter(closed, given)
    assert may_enter(Listen("0.0.0.0", key="secret").door, "Bearer secret")


@pytest.mark.parametrize(("host", "url"), [
    ("127.0.0.1", "http://127.0.0.1:80/a/v1"), ("0.0.0.0", "http://127.0.0.1:80/a/v1"), ("::", "http://[::1]:80/a/v1"),
    ("some-host", "http://some-host:80/a/v1"),
])  # fmt: skip
def test_the_url_is_one_that_this_machine_reaches(host, url):
    assert Listen(host, 80).url("a") == url


def test_a_port_where_somebody_listens_is_one_clear_error_even_when_it_could_be_shared():
    assert free_port("127.0.0.1", 0) > 0
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ClusterError, match=rf"cannot listen on 127\.0\.0\.1:{port} \(Address already in use\)"):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", port) == port


@pytest.mark.parametrize("host", ["192.0.2.1", "no host", "2001:db8::1"])
def test_an_address_that_is_not_of_this_machine_is_one_clear_error(host):
    with pytest.raises(ClusterError, match=f"cannot listen on {host}:0 .*choose another host"):
        free_port(host, 0)


@contextlib.contextmanager
def answering(*statuses):
    """A server that answers with these, one after the other, then with the last; 0 is nonsense instead of HTTP."""
    left = list(statuses)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status = left.pop(0) if len(left) > 1 else left[0]
            if status:
                self.send_response(status)
                self.end_headers()
            else:
                self.wfile.write(b"nonsense\r\n\r\n")

        def log_message(self, *said):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/app/v1", left
        server.shutdown()


@pytest.mark.parametrize("ready", [200, 401])
def test_it_waits_through_missing_routes_and_nonsense_until_a_model_answers_or_asks_for_a_key(ready):
    with answering(404, 0, 503, ready) as (url, left):
        assert wait_until_ready(url) is None
        assert left == [ready]


@pytest.mark.parametrize("status", [404, 0])
def test_what_never_answers_is_one_clear_error(monkeypatch, status):
    monkeypatch.setattr(listening, "_READY_S", 0.2)
    with answering(status) as (url, _), pytest.raises(ClusterError, match="does not answer"):
        wait_until_ready(url)
