from typing import Any

import pytest
from hfx_transfer.engine.settings import EngineSettings, is_loopback
from hfx_transfer.engine.socket.engine import SocketEngine

from hfx_sgl.errors import ConfigError


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"listen_host": ""}, "listen_host: must not be empty"),
        ({"listen_host": "0.0.0.0"}, "advertise_host: must be given"),
        ({"listen_host": "::"}, "advertise_host: must be given"),
        ({"advertise_host": "0.0.0.0"}, "advertise_host: must be given"),
        ({"port": 0}, "port: must be in 1..65535 (0)"),
        ({"port": 65536}, "port: must be in 1..65535 (65536)"),
        ({"token": ""}, "token: must not be empty"),
        ({"lanes": 0}, "lanes: must be in 1..16 (0)"),
        ({"lanes": 17}, "lanes: must be in 1..16 (17)"),
        ({"progress_timeout_s": 0.0}, "progress_timeout_s: must be above 0"),
        ({"progress_timeout_s": float("nan")}, "progress_timeout_s: must be above 0"),
        ({"first_contact_timeout_s": float("inf")}, "first_contact_timeout_s: must be above 0"),
    ],
)
def test_a_bad_field_is_named_with_its_limit(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EngineSettings(**fields)
    assert any(line.startswith(problem) for line in caught.value.problems)


def test_all_bad_fields_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        EngineSettings(port=0, lanes=0)
    assert len(caught.value.problems) == 2


def test_the_token_is_not_printed() -> None:
    assert "hunter2" not in repr(EngineSettings(token="hunter2"))


def test_peers_are_told_where_it_listens_unless_something_else_is_said() -> None:
    assert EngineSettings(listen_host="10.0.0.1").advertised_host == "10.0.0.1"
    behind = EngineSettings(listen_host="0.0.0.0", advertise_host="node7")
    assert behind.advertised_host == "node7"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("node7", False),
        ("127.0.0.1.example", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_sockets_do_not_listen_to_other_hosts_without_a_token() -> None:
    with pytest.raises(ConfigError, match="token: must be given"):
        SocketEngine(EngineSettings(listen_host="10.0.0.1"))
    SocketEngine(EngineSettings(listen_host="10.0.0.1", token="t")).close()
