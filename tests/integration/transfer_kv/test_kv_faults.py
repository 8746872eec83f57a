"""What goes wrong between a sender in another process and a receiver here, and what it costs.

The recurring question: when may pages of a hand-off that failed be used again?
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.kv.incoming import IncomingKv
from hfx_transfer.kv.receiver_states import IncomingState
from support.kv_sender import (
    HOLD_S,
    LAYOUT,
    NUM_TOKENS,
    WAIT_S,
    Receiving,
    SendingProcess,
    sending_process,
)
from support.loopback import in_loopback

from hfx_sgl.errors import TransferError, TransferFault

NUM_PAGES = LAYOUT.num_pages
HANDOFF_PAGES = NUM_TOKENS // LAYOUT.page_tokens


def eventually(is_met: Callable[[], bool], within_s: float = WAIT_S) -> bool:
    end_s = time.monotonic() + within_s
    while not is_met():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.001)
    return True


@contextmanager
def pair(backend: Backend) -> Iterator[tuple[Receiving, SendingProcess]]:
    receiving = Receiving(backend)
    try:
        with sending_process(backend) as sending:
            yield receiving, sending
    finally:
        receiving.close()


def opened(receiving: Receiving, timeout_s: float = WAIT_S) -> IncomingKv:
    incoming = receiving.receiver.open(NUM_TOKENS, timeout_s=timeout_s)
    assert incoming is not None
    return incoming


def fault_of(incoming: IncomingKv) -> TransferFault:
    error = incoming.arrival.exception(WAIT_S)
    assert isinstance(error, TransferError)
    return error.fault


def hand_over(receiving: Receiving, sending: SendingProcess) -> IncomingKv:
    incoming = opened(receiving)
    handoff_id = incoming.offer.handoff_id
    assert sending.ask("begin", incoming.offer) is None
    sending.ask("push", handoff_id, 0, LAYOUT.num_layers)
    sending.ask("finish", handoff_id)
    assert incoming.result(WAIT_S).metadata == b"last"
    assert sending.ask("accepted", handoff_id) is None
    assert sending.ask("settled", handoff_id)
    return incoming


def stopped_midway(receiving: Receiving, sending: SendingProcess, timeout_s: float) -> IncomingKv:
    """Begin a hand-off and stop its sender when some of the bytes have come, and not all."""
    for _ in range(10):
        incoming = opened(receiving, timeout_s)
        handoff_id = incoming.offer.handoff_id
        assert sending.ask("begin", incoming.offer) is None
        sending.ask("push", handoff_id, 0, LAYOUT.num_layers)
        first, last = incoming.pages[0], incoming.pages[-1]
        while receiving.first_byte(first, 0) == 0 and not incoming.arrival.done():
            time.sleep(0.0005)
        sending.stop()
        if receiving.last_byte(last) == 0 and not incoming.arrival.done():
            return incoming
        sending.resume()
        incoming.abort("too late to stop it")
        assert eventually(lambda: receiving.num_free == NUM_PAGES)
        receiving.fill(0)
    raise AssertionError("every transfer was over before its sender could be stopped")


def killed_midway(backend: Backend) -> None:
    """A hand-off whose sender dies midway fails at once; its pages come back after the hold."""
    with pair(backend) as (receiving, sending):
        incoming = stopped_midway(receiving, sending, WAIT_S)
        sending.kill()
        killed_at_s = time.monotonic()
        assert fault_of(incoming) is TransferFault.PEER_FAILED
        assert time.monotonic() - killed_at_s < 2.0
        assert receiving.receiver.num_quarantined_pages == HANDOFF_PAGES
        assert receiving.num_free == NUM_PAGES - HANDOFF_PAGES
        assert eventually(lambda: receiving.num_free == NUM_PAGES, within_s=3 * HOLD_S)
        assert time.monotonic() - killed_at_s > HOLD_S * 0.9
        assert receiving.receiver.lost_senders() == set()
        with sending_process(backend) as other:
            hand_over(receiving, other)


def stopped_sender_keeps_its_pages(backend: Backend) -> None:
    """However long it is stopped; others go on; once continued it settles, and nothing lands."""
    with pair(backend) as (receiving, sending), sending_process(backend) as other:
        incoming = stopped_midway(receiving, sending, 1.0)
        assert fault_of(incoming) is TransferFault.STALLED
        with pytest.raises(TransferError, match="in time"):
            incoming.result(WAIT_S)
        for _ in range(3):
            hand_over(receiving, other).release()
        time.sleep(HOLD_S * 1.2)
        assert receiving.receiver.num_quarantined_pages == HANDOFF_PAGES
        assert receiving.receiver.num_by_state() == {IncomingState.STOPPING: 1}
        assert receiving.receiver.open(NUM_PAGES * LAYOUT.page_tokens) is None
        sending.resume()
        assert eventually(lambda: receiving.num_free == NUM_PAGES)
        receiving.fill(7)
        time.sleep(0.5)
        assert bytes(receiving.pool.slabs[0].view()).count(7) == LAYOUT.slab_bytes
        fault, _ = sending.ask("accepted", incoming.offer.handoff_id)
        assert fault is TransferFault.STALLED
        hand_over(receiving, sending)


def aborts_on_either_side_settle(backend: Backend) -> None:
    with pair(backend) as (receiving, sending):
        for side in ("receiver", "sender"):
            incoming = opened(receiving)
            handoff_id = incoming.offer.handoff_id
            sending.ask("begin", incoming.offer)
            sending.ask("push", handoff_id, 0, LAYOUT.num_layers)
            page = incoming.pages[0]
            assert eventually(lambda page=page: receiving.first_byte(page, 0) != 0)  # type: ignore[misc]
            if side == "receiver":
                incoming.abort("the client has left")
            else:
                sending.ask("abort", handoff_id)
            assert fault_of(incoming) is TransferFault.ABORTED
            fault, _ = sending.ask("accepted", handoff_id)
            assert fault is TransferFault.ABORTED
            assert sending.ask("settled", handoff_id)
            assert eventually(lambda: receiving.num_free == NUM_PAGES)
            receiving.fill(0)
        hand_over(receiving, sending)


@pytest.mark.parametrize("backend", [Backend.SOCKET, Backend.SHM])
def test_a_sender_killed_midway(backend: Backend) -> None:
    killed_midway(backend)


@in_loopback
def test_a_sender_killed_midway_over_mooncake() -> None:
    killed_midway(Backend.MOONCAKE)


@pytest.mark.parametrize("backend", [Backend.SOCKET, Backend.SHM])
def test_a_stopped_sender(backend: Backend) -> None:
    stopped_sender_keeps_its_pages(backend)


@in_loopback
def test_a_stopped_sender_over_mooncake() -> None:
    stopped_sender_keeps_its_pages(Backend.MOONCAKE)


@pytest.mark.parametrize("backend", [Backend.SOCKET, Backend.SHM])
def test_aborts(backend: Backend) -> None:
    aborts_on_either_side_settle(backend)


@in_loopback
def test_aborts_over_mooncake() -> None:
    aborts_on_either_side_settle(Backend.MOONCAKE)
