from hfx_transfer.weights.lease import OPEN, Lease, LeaseConfig, LeaseState, LeaseTable
from hypothesis import given
from hypothesis import strategies as st

DURATION_S = 10.0
IDS = [f"lease-{i}" for i in range(4)]

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), st.sampled_from(IDS), st.integers(0, 2)),
        st.tuples(st.just("renew"), st.sampled_from(IDS), st.just(0)),
        st.tuples(st.just("release"), st.sampled_from(IDS), st.just(0)),
        st.tuples(st.just("ask_back"), st.just(""), st.integers(0, 2)),
        st.tuples(st.just("expire"), st.just(""), st.just(0)),
        st.tuples(st.just("pass"), st.just(""), st.integers(1, 12)),
    ),
    max_size=40,
)


@given(STEPS)
def test_a_lease_ends_once_and_is_counted_until_then(
    steps: list[tuple[str, str, int]],
) -> None:
    table = LeaseTable(LeaseConfig(duration_s=DURATION_S, max_open=3))
    now_s = 0.0
    seen: list[Lease] = []
    ended: list[Lease] = []
    for kind, name, number in steps:
        match kind:
            case "grant":
                taken = any(lease.lease_id == name for lease in seen if lease.state in OPEN)
                if not taken and (lease := table.grant(name, number, now_s)) is not None:
                    seen.append(lease)
            case "renew":
                renewed = table.renew(name, now_s)
                if renewed is not None and renewed.state is LeaseState.ACTIVE:
                    assert renewed.expires_at_s == now_s + DURATION_S
            case "release":
                released = table.release(name)
                ended += [released] if released is not None else []
            case "ask_back":
                table.ask_back(number)
            case "expire":
                over = table.expire(now_s)
                assert all(lease.expires_at_s <= now_s for lease in over)
                ended += over
            case "pass":
                now_s += number
        still_open = [lease for lease in seen if lease.state in OPEN]
        assert table.num_open() == len(still_open) <= 3
        for edition in range(3):
            expected = sum(lease.edition == edition for lease in still_open)
            assert table.num_open(edition) == expected
    assert len(ended) == len({id(lease) for lease in ended})
    assert {id(lease) for lease in ended} == {
        id(lease) for lease in seen if lease.state not in OPEN
    }
