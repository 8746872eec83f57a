"""What is refused, and what a broken connection costs; sender and receiver in this process."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import pytest
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.kv.incoming import IncomingKv
from hfx_transfer.kv.layout import KvDtype, KvLayout
from hfx_transfer.kv.offer import KvOffer, decode_offer
from hfx_transfer.kv.outgoing import OutgoingKv
from hfx_transfer.kv.pages import PageAllocator
from hfx_transfer.kv.pool import KvPool
from hfx_transfer.kv.receiver import KvReceiver
from hfx_transfer.kv.receiver_states import IncomingState
from hfx_transfer.kv.sender import KvSender
from hfx_transfer.kv.settings import HandoffSettings
from support.kv_sender import WAIT_S, make_pool

from hfx_sgl.errors import ConfigError, TransferError, TransferFault

LAYOUT = KvLayout(
    num_layers=2,
    page_tokens=4,
    num_kv_heads=2,
    head_dim=4,
    dtype=KvDtype.FLOAT32,
    num_pages=32,
)
NUM_TOKENS = 10
PAGES = (7, 3, 12)
HOLD_S = 0.2


class Pair:
    """A receiver and a sender, each with a pool of random bytes."""

    def __init__(
        self,
        *,
        ours: HandoffSettings | None = None,
        theirs: HandoffSettings | None = None,
        layout: KvLayout = LAYOUT,
    ) -> None:
        default = HandoffSettings(late_write_hold_s=HOLD_S)
        self.target = make_pool(Backend.SOCKET, LAYOUT)
        self.source = make_pool(Backend.SOCKET, layout)
        for slab in self.source.slabs:
            slab.view()[:] = random.Random(1).randbytes(slab.size_bytes)
        self.allocator = PageAllocator(LAYOUT.num_pages)
        self.receiver = KvReceiver(self.target, self.allocator, settings=ours or default)
        self.sender = KvSender(self.source, settings=theirs or default)

    def open(self, timeout_s: float = WAIT_S) -> IncomingKv:
        incoming = self.receiver.open(NUM_TOKENS, timeout_s=timeout_s)
        assert incoming is not None
        return incoming

    def push_all(self, handoff: OutgoingKv) -> None:
        for layer in range(LAYOUT.num_layers):
            handoff.push_layer(layer, PAGES, num_tokens=NUM_TOKENS)
        handoff.finish(NUM_TOKENS, metadata=b"end")

    def is_free(self) -> bool:
        return self.allocator.num_free == LAYOUT.num_pages

    def close(self) -> None:
        self.sender.close(within_s=5.0)
        self.receiver.close(within_s=5.0)
        for pool in (self.source, self.target):
            pool.close()
            pool.engine.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def eventually(is_met: Callable[[], bool], within_s: float = WAIT_S) -> bool:
    end_s = time.monotonic() + within_s
    while not is_met():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.001)
    return True


def fault_of(handoff: IncomingKv | OutgoingKv) -> TransferFault:
    future = handoff.arrival if isinstance(handoff, IncomingKv) else handoff.accepted
    error = future.exception(WAIT_S)
    assert isinstance(error, TransferError), error
    return error.fault


def test_a_hand_off_ends_once_and_pages_come_back_on_release(pair: Pair) -> None:
    incoming = pair.open()
    handoff = pair.sender.begin(decode_offer(incoming.offer.encode()))
    pair.push_all(handoff)
    arrival = incoming.result(WAIT_S)
    assert (arrival.num_tokens, arrival.metadata) == (NUM_TOKENS, b"end")
    assert handoff.accepted.result(WAIT_S) is None
    assert pair.allocator.num_free == LAYOUT.num_pages - 3
    incoming.abort("too late")
    incoming.release()
    assert pair.is_free()
    assert incoming.result(0) == arrival
    handoff.abort("too late as well")
    assert handoff.settled.result(WAIT_S) is None


def test_a_hand_off_that_nobody_takes_up_ends_in_time(pair: Pair) -> None:
    incoming = pair.open(timeout_s=0.1)
    assert fault_of(incoming) is TransferFault.STALLED
    assert pair.is_free()
    late = pair.sender.begin(incoming.offer)
    assert fault_of(late) is TransferFault.ABORTED


def test_a_hand_off_has_one_sender(pair: Pair) -> None:
    incoming = pair.open()
    first = pair.sender.begin(incoming.offer)
    pair.push_all(first)
    assert eventually(lambda: pair.receiver.num_by_state()[IncomingState.OPEN] == 0)
    second = KvSender(pair.source)
    assert fault_of(second.begin(incoming.offer)) is TransferFault.ABORTED
    assert incoming.result(WAIT_S).num_tokens == NUM_TOKENS
    assert second.close()


def test_the_deadline_ends_a_sender_that_dawdles(pair: Pair) -> None:
    incoming = pair.open(timeout_s=0.3)
    handoff = pair.sender.begin(incoming.offer)
    handoff.push_layer(0, PAGES, num_tokens=NUM_TOKENS)
    assert fault_of(incoming) is TransferFault.STALLED
    assert fault_of(handoff) is TransferFault.STALLED
    assert handoff.settled.result(WAIT_S) is None
    assert eventually(pair.is_free)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_layers": 4}, "num_layers"),
        ({"num_kv_heads": 4}, "num_kv_heads"),
        ({"head_dim": 8}, "head_dim"),
        ({"dtype": KvDtype.BFLOAT16}, "dtype"),
    ],
)
def test_incompatible_kv_is_refused_by_name_before_anything_moves(
    changes: dict[str, object], named: str
) -> None:
    layout = msgspec.structs.replace(LAYOUT, **changes)
    pair = Pair(layout=layout)
    try:
        incoming = pair.open()
        with pytest.raises(TransferError, match=named) as caught:
            pair.sender.begin(incoming.offer)
        assert caught.value.fault is TransferFault.INCOMPATIBLE
        # A sender that was told something else finds out from the receiver.
        lied = msgspec.structs.replace(incoming.offer, layout=layout)
        handoff = pair.sender.begin(lied)
        assert fault_of(handoff) is TransferFault.INCOMPATIBLE
        assert named in str(handoff.accepted.exception())
        assert set(pair.target.slabs[0].view().tobytes()) == {0}
    finally:
        pair.close()


def test_another_backend_is_refused_by_name(pair: Pair) -> None:
    offer = msgspec.structs.replace(pair.open().offer, backend=Backend.SHM)
    with pytest.raises(TransferError, match="backend is socket here and shm there") as caught:
        pair.sender.begin(offer)
    assert caught.value.fault is TransferFault.INCOMPATIBLE


@pytest.mark.parametrize("theirs", [None, "wrong"])
def test_a_wrong_token_is_refused(theirs: str | None) -> None:
    settings = HandoffSettings(late_write_hold_s=HOLD_S)
    pair = Pair(ours=replace(settings, token="right"), theirs=replace(settings, token=theirs))
    try:
        incoming = pair.open(timeout_s=5.0)
        assert fault_of(pair.sender.begin(incoming.offer)) is TransferFault.UNAUTHORIZED
        assert not incoming.arrival.done()
    finally:
        pair.close()


def test_the_right_token_is_accepted() -> None:
    settings = HandoffSettings(late_write_hold_s=HOLD_S, token="right")
    pair = Pair(ours=settings, theirs=settings)
    try:
        handoff = pair.sender.begin(pair.open().offer)
        pair.push_all(handoff)
        assert handoff.accepted.result(WAIT_S) is None
    finally:
        pair.close()


def test_other_hosts_need_a_token() -> None:
    with pytest.raises(ConfigError, match=r"token: must be given to listen on 0\.0\.0\.0"):
        HandoffSettings(listen_host="0.0.0.0")


@pytest.mark.parametrize("num_pushed", [0, 1])
def test_kv_that_is_not_complete_is_not_accepted(pair: Pair, num_pushed: int) -> None:
    incoming = pair.open()
    handoff = pair.sender.begin(incoming.offer)
    for layer in range(num_pushed):
        handoff.push_layer(layer, PAGES, num_tokens=NUM_TOKENS)
    handoff.finish(NUM_TOKENS)
    assert fault_of(incoming) is TransferFault.PROTOCOL
    assert fault_of(handoff) is TransferFault.PROTOCOL
    assert f"layer {num_pushed} has 0 of 10 tokens" in str(incoming.arrival.exception())
    assert eventually(pair.is_free)


def test_bytes_that_are_not_those_that_were_sent_are_not_accepted(pair: Pair) -> None:
    """Somebody else writes into a page before the last chunk has come."""
    incoming = pair.open()
    handoff = pair.sender.begin(incoming.offer)
    handoff.push_layer(0, PAGES, num_tokens=NUM_TOKENS)
    start = incoming.pages[0] * LAYOUT.page_tokens * LAYOUT.token_bytes
    view = pair.target.slabs[0].view()
    assert eventually(lambda: any(view[start : start + LAYOUT.token_bytes]))
    view[start] ^= 0xFF
    handoff.push_layer(1, PAGES, num_tokens=NUM_TOKENS)
    handoff.finish(NUM_TOKENS)
    assert fault_of(incoming) is TransferFault.DIGEST_MISMATCH
    assert fault_of(handoff) is TransferFault.DIGEST_MISMATCH
    assert "layer 0" in str(incoming.arrival.exception())
    assert eventually(pair.is_free)


def test_a_receiver_that_is_gone_is_noticed(pair: Pair) -> None:
    incoming = pair.open()
    handoff = pair.sender.begin(incoming.offer)
    handoff.push_layer(0, PAGES, num_tokens=NUM_TOKENS)
    assert eventually(lambda: pair.receiver.num_by_state()[IncomingState.RECEIVING] == 1)
    pair.receiver.close(within_s=5.0)
    assert fault_of(incoming) is TransferFault.ABORTED
    assert fault_of(handoff) in (TransferFault.ABORTED, TransferFault.PEER_FAILED)
    assert handoff.settled.result(WAIT_S) is None
    # The end of the connection may not have been seen yet.
    late = fault_of(pair.sender.begin(incoming.offer))
    assert late in (TransferFault.PEER_FAILED, TransferFault.UNREACHABLE)
    assert fault_of(pair.sender.begin(incoming.offer)) is TransferFault.UNREACHABLE


@pytest.mark.parametrize(
    "first_word",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x00",
        random.Random(7).randbytes(64),
        b"",
    ],
)
def test_strangers_are_sent_away_and_others_are_served(pair: Pair, first_word: bytes) -> None:
    with socket.create_connection(pair.receiver.address, timeout=WAIT_S) as stranger:
        stranger.sendall(first_word)
        stranger.shutdown(socket.SHUT_WR)
        while stranger.recv(4096):
            pass
    handoff = pair.sender.begin(pair.open().offer)
    pair.push_all(handoff)
    assert handoff.accepted.result(WAIT_S) is None


def test_a_sender_s_mistakes_are_said_to_it(pair: Pair) -> None:
    handoff = pair.sender.begin(pair.open().offer)
    for layer, pages, first, num in (
        (2, PAGES, 0, 10), (0, PAGES, 0, 11), (0, PAGES, -1, 4), (0, PAGES, 0, 0),
        (0, PAGES[:2], 0, 10), (0, (40, 1, 2), 0, 10),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"layer|pages"):
            handoff.push_layer(layer, pages, first_token=first, num_tokens=num)
    pair.push_all(handoff)
    assert handoff.accepted.result(WAIT_S) is None


@pytest.mark.parametrize("text", ["", "{}", '{"host":"x"}', "[1]"])
def test_other_texts_are_no_offers(text: str) -> None:
    with pytest.raises(TransferError, match="no offer") as caught:
        decode_offer(text)
    assert caught.value.fault is TransferFault.PROTOCOL


class Cable:
    """A TCP connection that passes through here, and can be cut."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def num_connections(self) -> int:
        return len(self._ends) // 2

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            there = socket.create_connection(self._target)
            self._ends += [here, there]
            for one, other in ((here, there), (there, here)):
                self._threads.append(threading.Thread(target=_pass_on, args=(one, other)))
                self._threads[-1].start()

    def cut(self) -> None:
        for end in self._ends:
            # The other direction may have ended the same one.
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._ends):
            end.close()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    try:
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        return


def test_a_sender_whose_connection_broke_comes_back_to_settle(pair: Pair) -> None:
    cable = Cable(pair.receiver.address)
    incoming = pair.open()
    host, port = cable.address
    offer: KvOffer = msgspec.structs.replace(incoming.offer, host=host, port=port)
    handoff = pair.sender.begin(offer)
    handoff.push_layer(0, PAGES, num_tokens=NUM_TOKENS)
    start = incoming.pages[0] * LAYOUT.page_tokens * LAYOUT.token_bytes
    view = pair.target.slabs[0].view()
    assert eventually(lambda: any(view[start : start + LAYOUT.token_bytes]))
    cable.cut()
    assert fault_of(incoming) is TransferFault.PEER_FAILED
    assert fault_of(handoff) is TransferFault.PEER_FAILED
    assert handoff.settled.result(WAIT_S) is None
    assert eventually(pair.is_free)
    assert cable.num_connections == 2
    again = pair.open()
    fresh = pair.sender.begin(msgspec.structs.replace(again.offer, host=host, port=port))
    pair.push_all(fresh)
    assert again.result(WAIT_S).num_tokens == NUM_TOKENS
    cable.close()


def test_a_sender_that_closes_gives_up_what_it_has_begun(pair: Pair) -> None:
    incoming = pair.open()
    handoff = pair.sender.begin(incoming.offer)
    handoff.push_layer(0, PAGES, num_tokens=NUM_TOKENS)
    assert eventually(lambda: pair.receiver.num_by_state()[IncomingState.RECEIVING] == 1)
    assert pair.sender.close()
    assert fault_of(incoming) is TransferFault.ABORTED
    assert handoff.settled.result(WAIT_S) is None
    assert eventually(pair.is_free)


def test_memory_stays_while_somebody_may_write_to_it(pair: Pair) -> None:
    pool: KvPool = pair.target
    incoming = pair.open()
    handoff = pair.sender.begin(incoming.offer)
    assert eventually(lambda: pool.slabs[0].num_pins == 1)
    pair.push_all(handoff)
    incoming.result(WAIT_S)
    incoming.release()
    assert pool.slabs[0].num_pins == 0


def test_what_is_closed_takes_nothing_more(pair: Pair) -> None:
    offer = pair.open().offer
    assert pair.receiver.close()
    assert pair.sender.close()
    assert pair.sender.close()
    with pytest.raises(ValueError, match="closed"):
        pair.receiver.open(1)
    with pytest.raises(ValueError, match="closed"):
        pair.sender.begin(offer)
