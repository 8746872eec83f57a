import pytest
from hfx_transfer.weights.lease import (
    OPEN,
    TRANSITIONS,
    LeaseConfig,
    LeaseEvent,
    LeaseState,
    LeaseTable,
    next_state,
)

from hfx_sgl.errors import ConfigError

CONFIG = LeaseConfig(duration_s=10.0, max_open=2)


def test_every_event_can_happen_to_an_open_lease_and_none_to_another() -> None:
    assert set(TRANSITIONS) == {(state, event) for state in OPEN for event in LeaseEvent}
    for state in set(LeaseState) - OPEN:
        for event in LeaseEvent:
            with pytest.raises(ValueError, match=f"event {event} is impossible in state {state}"):
                next_state(state, event)


def test_renewal_prolongs_from_the_moment_it_comes() -> None:
    table = LeaseTable(CONFIG)
    table.grant("a", 1, 100.0)
    lease = table.renew("a", 109.0)
    assert lease is not None
    assert lease.expires_at_s == 119.0
    assert table.expire(118.9) == []
    assert [over.state for over in table.expire(119.0)] == [LeaseState.EXPIRED]
    assert table.num_open() == 0


def test_renewal_that_comes_too_late_is_none() -> None:
    table = LeaseTable(CONFIG)
    table.grant("a", 1, 100.0)
    assert table.renew("a", 110.0) is None
    assert table.renew("unknown", 100.0) is None


def test_lease_that_was_asked_back_stays_until_released_and_is_not_prolonged() -> None:
    table = LeaseTable(CONFIG)
    table.grant("a", 1, 100.0)
    table.ask_back(1)
    lease = table.renew("a", 105.0)
    assert lease is not None
    assert (lease.state, lease.expires_at_s) == (LeaseState.ENDING, 110.0)
    assert table.num_open(1) == 1
    assert table.release("a") is lease
    assert (lease.state, table.num_open(1)) == (LeaseState.RELEASED, 0)
    assert table.release("a") is None


def test_only_the_edition_that_goes_is_asked_back() -> None:
    table = LeaseTable(CONFIG)
    table.grant("old", 1, 0.0)
    table.grant("new", 2, 0.0)
    table.ask_back(1)
    states = [table.renew(name, 1.0) for name in ("old", "new")]
    assert [lease and lease.state for lease in states] == [LeaseState.ENDING, LeaseState.ACTIVE]
    assert (table.num_open(1), table.num_open(2), table.num_open()) == (1, 1, 2)


def test_no_more_leases_than_may_be_open() -> None:
    table = LeaseTable(CONFIG)
    assert table.grant("a", 1, 0.0)
    assert table.grant("b", 1, 0.0)
    assert table.grant("c", 1, 0.0) is None
    table.release("a")
    assert table.grant("c", 1, 0.0)
    with pytest.raises(ValueError, match="lease c exists"):
        table.grant("c", 1, 0.0)


@pytest.mark.parametrize("fields", [{"duration_s": 0}, {"max_open": 0}], ids=str)
def test_bad_config(fields: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        LeaseConfig(**fields)  # type: ignore[arg-type]
