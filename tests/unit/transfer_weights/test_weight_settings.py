from pathlib import Path

import pytest
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.weights import LoadSettings, ParallelRank, SeedSettings
from hfx_transfer.weights.cli.flags import backends_of, rank_of
from hfx_transfer.weights.token import TOKEN_VARIABLE, read_token

from hfx_sgl.errors import ConfigError


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "somewhere.example", "::"])
def test_token_is_needed_beyond_loopback(host: str) -> None:
    with pytest.raises(ConfigError, match="token: needed to listen on"):
        SeedSettings(host=host, advertise_host="192.0.2.1")
    SeedSettings(host=host, advertise_host="192.0.2.1", token="secret")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_no_token_is_needed_on_loopback(host: str) -> None:
    assert SeedSettings(host=host).token is None


def test_token_is_not_shown() -> None:
    shown = repr(SeedSettings(token="secret")) + repr(LoadSettings(token="secret"))
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (SeedSettings, "port", 70_000),
        (SeedSettings, "port", -1),
        (SeedSettings, "chunk_bytes", 100),
        (SeedSettings, "close_timeout_s", -1.0),
        (SeedSettings, "backends", ()),
        (LoadSettings, "control_timeout_s", 0.0),
        (LoadSettings, "first_contact_timeout_s", 0.0),
        (LoadSettings, "max_active_sources", 0),
        (LoadSettings, "max_failures", 0),
        (LoadSettings, "max_restarts", -1),
        (LoadSettings, "source_wait_s", float("nan")),
        (LoadSettings, "idle_timeout_s", float("inf")),
    ],
)
def test_bad_field_is_named(kind: type, field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{field}: "):
        kind(**{field: value})


def test_engines_get_the_timeouts_and_the_token() -> None:
    settings = LoadSettings(token="t", progress_timeout_s=7.0, first_contact_timeout_s=2.0)
    engine = settings.engine_settings()
    assert (engine.token, engine.progress_timeout_s) == ("t", 7.0)
    assert engine.first_contact_timeout_s == 2.0


def test_token_of_a_file_goes_before_that_of_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    environ = {TOKEN_VARIABLE: "from-environ"}
    assert read_token(file, environ) == "from-file"
    assert read_token(None, environ) == "from-environ"
    assert read_token(None, {}) is None


@pytest.mark.parametrize("content", ["", " \n", "two\nlines", "schlüssel"])
def test_bad_token(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    with pytest.raises(ConfigError, match="printable ASCII"):
        read_token(file, {})
    with pytest.raises(ConfigError, match=f"{TOKEN_VARIABLE}: must"):
        read_token(None, {TOKEN_VARIABLE: content})


def test_token_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"token_file: .* cannot be read"):
        read_token(tmp_path / "missing", {})


def test_lists_of_backends() -> None:
    assert backends_of("socket, shm,socket") == (Backend.SOCKET, Backend.SHM)
    for bad in ("pigeon", "file"):
        with pytest.raises(ConfigError, match=f"backends: {bad} is none of"):
            backends_of(bad)


def test_ranks() -> None:
    assert rank_of(None) is None
    assert rank_of("tp=1/2, pp=0/4") == ParallelRank(tp_rank=1, tp_size=2, pp_size=4)
    for bad in ("tp=2/2", "tp=1", "xp=0/1", "tp=-1/2", ""):
        with pytest.raises(ConfigError, match=r"^rank: "):
            rank_of(bad)
