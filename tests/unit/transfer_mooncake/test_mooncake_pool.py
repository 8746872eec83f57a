import threading

import pytest
from hfx_transfer.engine.mooncake.link import Contact, Link
from hfx_transfer.engine.mooncake.pool import MAX_LINKS, REST_S, LinkPool
from support.native_mooncake import FakeNative

from hfx_sgl.clock import FakeClock
from hfx_sgl.errors import TransferError, TransferFault

PATIENCE_S = 10.0


def make_pool(clock: FakeClock) -> LinkPool:
    return LinkPool(lambda: Link(FakeNative(), registers=False), clock)


def meet(link: Link, session: str) -> None:
    assert link.contact(session, 4096, 4096, PATIENCE_S) is Contact.MADE


def test_a_peer_gets_its_own_link_again() -> None:
    pool = make_pool(FakeClock())
    links = {session: pool.acquire(session) for session in ("a", "b")}
    for session, link in links.items():
        meet(link, session)
        pool.give_back(link)
    assert pool.acquire("b") is links["b"]
    assert pool.acquire("a") is links["a"]
    # Both are lent.
    assert pool.acquire("a") not in links.values()
    assert pool.num_links == 3


def test_a_link_whose_contact_was_refused_serves_anybody() -> None:
    pool = make_pool(FakeClock())
    for session in ("a", "b", "c"):
        link = pool.acquire(session)
        assert isinstance(link.native, FakeNative)
        link.native.refuses = True
        assert link.contact(session, 4096, 4096, PATIENCE_S) is Contact.REFUSED
        assert link.probe(session, PATIENCE_S) is Contact.REFUSED
        pool.give_back(link)
    assert pool.num_links == 1


def test_a_link_that_failed_rests_and_then_avoids_that_peer() -> None:
    clock = FakeClock()
    pool = make_pool(clock)
    failed = pool.acquire("a")
    meet(failed, "a")
    pool.rest(failed)
    assert pool.acquire("b") is not failed
    clock.advance(REST_S)
    assert pool.acquire("a") is not failed
    assert pool.acquire("c") is failed


def test_fresh_means_never_met() -> None:
    pool = make_pool(FakeClock())
    old = pool.acquire("a")
    meet(old, "a")
    pool.give_back(old)
    assert pool.acquire("a", fresh=True) is not old
    assert pool.acquire("a") is old


def test_a_silent_peer_costs_a_link_until_it_answers() -> None:
    clock = FakeClock()
    pool = make_pool(clock)
    blocked = pool.acquire("silent")
    answer = threading.Event()
    assert isinstance(blocked.native, FakeNative)
    blocked.native.on_open = lambda: answer.wait(PATIENCE_S)
    assert blocked.contact("silent", 4096, 4096, 0.01) is Contact.SILENT
    pool.abandon(blocked)
    clock.advance(REST_S)
    assert pool.acquire("other") is not blocked
    answer.set()
    while blocked.is_blocked:
        threading.Event().wait(0.001)
    assert pool.acquire("another") is not blocked  # It rests first.
    clock.advance(REST_S)
    assert pool.acquire("third") is blocked


def test_when_no_more_can_be_made_others_are_taken() -> None:
    clock = FakeClock()
    pool = make_pool(clock)
    links = [pool.acquire(f"peer {number}") for number in range(MAX_LINKS)]
    with pytest.raises(TransferError, match=f"all {MAX_LINKS}") as caught:
        pool.acquire("one more")
    assert caught.value.fault is TransferFault.UNAVAILABLE
    for number, link in enumerate(links):
        meet(link, f"peer {number}")
        pool.give_back(link)
    # The one whose peer was not needed for longest.
    assert pool.acquire("one more") is links[0]
    # Even what has met the peer, rather than nothing.
    for link in links[1:]:
        meet(link, "everybody's")
    assert pool.acquire("everybody's", fresh=True) in links[1:]
    assert pool.num_links == MAX_LINKS


def test_a_link_that_cannot_be_made_is_not_counted() -> None:
    def fail() -> Link:
        raise TransferError("no port", fault=TransferFault.UNAVAILABLE)

    pool = LinkPool(fail, FakeClock())
    for _ in range(MAX_LINKS + 1):
        with pytest.raises(TransferError, match="no port"):
            pool.acquire("a")
    assert pool.num_links == 0
