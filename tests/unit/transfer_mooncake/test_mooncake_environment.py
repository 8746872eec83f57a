import pytest
from hfx_transfer.engine.mooncake import environment
from hfx_transfer.engine.mooncake.environment import FORBIDDEN, apply, variables
from hfx_transfer.engine.settings import EngineSettings

from hfx_sgl.errors import ConfigError


def values(
    settings: EngineSettings | None = None, *, extra: str | None = "cpu", has_adapters: bool = False
) -> dict[str, str]:
    table = variables(settings or EngineSettings(), extra=extra, has_adapters=has_adapters)
    assert all(variable.reason for variable in table)
    names = [variable.name for variable in table]
    assert len(set(names)) == len(names)
    return {variable.name: variable.value for variable in table}


@pytest.mark.parametrize(
    ("extra", "has_adapters", "forces_tcp"),
    [
        ("cpu", False, True),
        ("cpu", True, False),
        ("cuda", False, True),
        ("cuda", True, False),
        (None, False, True),
        ("npu", False, False),
        ("npu", True, False),
    ],
)
def test_tcp_is_forced_where_there_is_nothing_else(
    extra: str | None, has_adapters: bool, forces_tcp: bool
) -> None:
    table = values(extra=extra, has_adapters=has_adapters)
    assert ("MC_FORCE_TCP" in table) == forces_tcp


def test_timeouts_are_whole_seconds_and_never_shorter_than_asked() -> None:
    table = values(EngineSettings(progress_timeout_s=2.1, first_contact_timeout_s=0.2))
    assert table["MC_TCP_PROGRESS_TIMEOUT_SEC"] == "3"
    assert table["MC_TCP_STATUS_TIMEOUT_SEC"] == "3"
    assert table["MC_HANDSHAKE_CONNECT_TIMEOUT"] == "1"


def test_npus_have_timeouts_of_their_own_in_milliseconds() -> None:
    settings = EngineSettings(progress_timeout_s=2.5, first_contact_timeout_s=1.5)
    table = values(settings, extra="npu")
    assert table["ASCEND_TRANSFER_TIMEOUT"] == "2500"
    assert table["ASCEND_CONNECT_TIMEOUT"] == "1500"
    assert "ASCEND_TRANSFER_TIMEOUT" not in values(settings, extra="cuda")


def test_lanes() -> None:
    assert values()["MC_TCP_LANES_PER_PEER"] == "4"
    assert values(EngineSettings(lanes=7))["MC_TCP_LANES_PER_PEER"] == "7"


@pytest.mark.parametrize(
    ("port", "first", "last"), [(None, "15000", "16999"), (30768, "30768", "32767")]
)
def test_ports(port: int | None, first: str, last: str) -> None:
    table = values(EngineSettings(port=port))
    assert (table["MC_MIN_RPC_PORT"], table["MC_MAX_RPC_PORT"]) == (first, last)


def test_ports_that_mooncake_would_ignore_are_refused() -> None:
    with pytest.raises(ConfigError, match="port: must be at most 30768"):
        values(EngineSettings(port=30769))


def test_settings_overrule_what_is_set_but_not_the_log_level() -> None:
    table = variables(EngineSettings(progress_timeout_s=3), extra="cpu", has_adapters=False)
    found = {"MC_TCP_PROGRESS_TIMEOUT_SEC": "30", "MC_LOG_LEVEL": "INFO", "MC_FORCE_TCP": "true"}
    apply(table, found, is_loaded=False)
    assert found["MC_TCP_PROGRESS_TIMEOUT_SEC"] == "3"
    assert found["MC_LOG_LEVEL"] == "INFO"
    assert found["MC_FORCE_TCP"] == "true"
    # A second engine with the same settings finds nothing to change.
    before = dict(found)
    apply(table, found, is_loaded=True)
    assert found == before


def test_nothing_can_change_after_the_import() -> None:
    found: dict[str, str] = {}
    apply(
        variables(EngineSettings(progress_timeout_s=3), extra="cpu", has_adapters=False),
        found,
        is_loaded=False,
    )
    before = dict(found)
    other = variables(
        EngineSettings(progress_timeout_s=9, lanes=2), extra="cpu", has_adapters=False
    )
    with pytest.raises(ConfigError) as caught:
        apply(other, found, is_loaded=True)
    message = str(caught.value)
    assert "MC_TCP_PROGRESS_TIMEOUT_SEC: must be '9'" in message
    assert "MC_TCP_LANES_PER_PEER: must be '2'" in message
    assert "MC_LOG_LEVEL" not in message
    assert found == before


def test_an_import_without_our_variables_is_refused() -> None:
    table = variables(EngineSettings(), extra="cpu", has_adapters=False)
    with pytest.raises(ConfigError, match="imported in this process with None"):
        apply(table, {}, is_loaded=True)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_forbidden_variables(name: str) -> None:
    table = variables(EngineSettings(), extra="cpu", has_adapters=False)
    with pytest.raises(ConfigError, match=f"{name}: must not be set"):
        apply(table, {name: "1"}, is_loaded=False)


def test_a_wish_for_nvlink_is_not_overruled() -> None:
    table = variables(EngineSettings(), extra="cuda", has_adapters=False)
    found = {"MC_INTRANODE_NVLINK": "1"}
    apply(table, found, is_loaded=False)
    assert "MC_FORCE_TCP" not in found
    assert environment.wants_nvlink(found)
