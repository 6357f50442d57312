import pickle

import pytest

from dpe_ray.errors import ConfigError
from dpe_ray.runtime.listening import Listen, closed_door, may_enter


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


def test_without_a_key_everybody_may_enter_and_a_closed_door_opens_to_none():
    assert may_enter(Listen().door, "")
    assert may_enter(Listen().door, "Bearer none")
    assert not may_enter(closed_door(), "Bearer none")
    assert closed_door() != closed_door()


@pytest.mark.parametrize(("host", "url"), [
    ("127.0.0.1", "http://127.0.0.1:80/a/v1"), ("0.0.0.0", "http://127.0.0.1:80/a/v1"), ("::", "http://[::1]:80/a/v1"),
    ("some-host", "http://some-host:80/a/v1"),
])  # fmt: skip
def test_the_url_is_one_that_this_machine_reaches(host, url):
    assert Listen(host).url(80, "a") == url
