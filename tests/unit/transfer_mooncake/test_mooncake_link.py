import threading

import pytest
from hfx_transfer.engine.mooncake.link import Contact, Link
from support.native_mooncake import FakeNative

PATIENCE_S = 10.0


@pytest.mark.parametrize(
    ("statuses", "contact"),
    [([1], Contact.MADE), ([0, 0, 1], Contact.MADE), ([0, -1], Contact.FAILED)],
)
def test_contact_reads_a_few_bytes_of_the_slab(statuses: list[int], contact: Contact) -> None:
    native = FakeNative()
    native.statuses.extend(statuses)
    link = Link(native, registers=False)
    assert link.contact("peer:1", 1 << 40, 8192, PATIENCE_S) is contact
    ((operation, session, _, remote_address, size_bytes),) = native.submitted
    assert (operation, session, remote_address, size_bytes) == ("read", "peer:1", 1 << 40, 8)
    assert link.sessions_seen == {"peer:1"}
    assert not link.is_blocked


def test_contact_stays_within_a_tiny_slab() -> None:
    native = FakeNative()
    assert Link(native, registers=False).contact("peer:1", 4096, 3, PATIENCE_S) is Contact.MADE
    assert native.submitted[0][-1] == 3


def test_a_session_that_cannot_be_opened_leaves_no_trace() -> None:
    native = FakeNative()
    native.refuses = True
    link = Link(native, registers=False)
    assert link.contact("peer:1", 4096, 8, PATIENCE_S) is Contact.REFUSED
    assert link.probe("peer:1", PATIENCE_S) is Contact.REFUSED
    assert link.sessions_seen == set()


def test_nobody_waits_for_a_silent_peer() -> None:
    native = FakeNative()
    link = Link(native, registers=False)
    answer = threading.Event()
    native.on_open = lambda: answer.wait(PATIENCE_S)
    assert link.probe("peer:1", 0.01) is Contact.SILENT
    assert link.is_blocked
    answer.set()
    while link.is_blocked:
        threading.Event().wait(0.001)
    assert link.probe("peer:1", PATIENCE_S) is Contact.MADE
