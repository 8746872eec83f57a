"""What a sender and a receiver tell those who count."""

from collections.abc import Iterator

import pytest
from hfx_transfer.engine.fake import FakeEngine, FakeNetwork, Scripted
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.kv.incoming import IncomingKv
from hfx_transfer.kv.layout import KvDtype, KvLayout
from hfx_transfer.kv.outgoing import OutgoingKv
from hfx_transfer.kv.pages import PageAllocator
from hfx_transfer.kv.pool import KvPool
from hfx_transfer.kv.receiver import KvReceiver
from hfx_transfer.kv.sender import KvSender
from hfx_transfer.kv.settings import HandoffSettings
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.metrics import TransferMetrics
from prometheus_client.parser import text_string_to_metric_families
from support.kv_sender import WAIT_S

from hfx_sgl.errors import TransferError, TransferFault

LAYOUT = KvLayout(
    num_layers=2,
    page_tokens=4,
    num_kv_heads=1,
    head_dim=8,
    dtype=KvDtype.UINT8,
    num_pages=8,
)
NUM_TOKENS = 10
NUM_BYTES = NUM_TOKENS * LAYOUT.handoff_token_bytes
SETTINGS = HandoffSettings(late_write_hold_s=0)
Counts = dict[tuple[str, ...], float]


class Rig:
    """A sender and a receiver with a registry each, and a network that does as it is told."""

    def __init__(self) -> None:
        self.network = FakeNetwork()
        self.ours, self.theirs = TransferMetrics(), TransferMetrics()
        self.source = KvPool(LAYOUT, HostSlab, FakeEngine(self.network, "us"), receives=False)
        self.target = KvPool(LAYOUT, HostSlab, FakeEngine(self.network, "them"))
        self.sender = KvSender(self.source, settings=SETTINGS, observer=self.ours)
        allocator = PageAllocator(LAYOUT.num_pages)
        self.receiver = KvReceiver(self.target, allocator, settings=SETTINGS, observer=self.theirs)

    def hand_over(self) -> tuple[OutgoingKv, IncomingKv]:
        incoming = self.receiver.open(NUM_TOKENS)
        assert incoming is not None
        outgoing = self.sender.begin(incoming.offer)
        for layer in range(LAYOUT.num_layers):
            outgoing.push_layer(layer, range(3), num_tokens=NUM_TOKENS)
        outgoing.finish(NUM_TOKENS)
        return outgoing, incoming

    def close(self) -> None:
        assert self.sender.close()
        assert self.receiver.close()
        for pool in (self.source, self.target):
            pool.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


def counts(metrics: TransferMetrics) -> Counts:
    """The counters of one side, without those that are zero."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            if sample.name.endswith(("_total", "_count")) and sample.value:
                name = sample.name.removeprefix("hfx_transfer_")
                found[(name, *sample.labels.values())] = sample.value
    return found


def ended(outcome: str) -> Counts:
    return {("duration_seconds_count", "kv", outcome): 1}


def fault_of(handoff: OutgoingKv | IncomingKv) -> TransferFault | None:
    future = handoff.accepted if isinstance(handoff, OutgoingKv) else handoff.arrival
    error = future.exception(WAIT_S)
    assert error is None or isinstance(error, TransferError)
    return None if error is None else error.fault


def test_a_prompt_that_arrives(rig: Rig) -> None:
    both = rig.hand_over()
    assert [fault_of(side) for side in both] == [None, None]
    # The second waiter may be woken before the first one's count is done; closing joins threads.
    rig.sender.close()
    rig.receiver.close()
    assert counts(rig.ours) == {("bytes_total", "socket", "out"): NUM_BYTES, **ended("ok")}
    assert counts(rig.theirs) == {("bytes_total", "socket", "in"): NUM_BYTES, **ended("ok")}


def test_a_chunk_that_does_not_move(rig: Rig) -> None:
    rig.network.plan("them", Scripted(), Scripted(fault=TransferFault.STALLED))
    both = rig.hand_over()
    assert [fault_of(side) for side in both] == [TransferFault.STALLED] * 2
    rig.sender.close()
    rig.receiver.close()
    ours = counts(rig.ours)
    assert 0 < ours.pop(("bytes_total", "socket", "out")) < NUM_BYTES
    assert ours == {("chunk_failures_total", "socket", "stalled"): 1, **ended("stalled")}
    assert counts(rig.theirs) == ended("stalled")


def test_a_chunk_that_arrives_wrong(rig: Rig) -> None:
    rig.network.plan("them", Scripted(corrupts=True))
    both = rig.hand_over()
    assert [fault_of(side) for side in both] == [TransferFault.DIGEST_MISMATCH] * 2
    rig.sender.close()
    rig.receiver.close()
    assert counts(rig.ours)["duration_seconds_count", "kv", "digest_mismatch"] == 1
    assert counts(rig.theirs) == {
        ("chunk_failures_total", "socket", "digest_mismatch"): 1,
        **ended("digest_mismatch"),
    }


def test_a_hand_off_that_is_given_up_has_no_chunk_that_failed(rig: Rig) -> None:
    rig.network.plan("them", *[Scripted(hangs=True)] * 64)
    outgoing, incoming = rig.hand_over()
    while not rig.network.num_under_way:
        assert not outgoing.accepted.done()
    outgoing.abort("the client left")
    assert [fault_of(outgoing), fault_of(incoming)] == [TransferFault.ABORTED] * 2
    rig.network.kill("them")
    assert outgoing.settled.exception(WAIT_S) is None
    rig.sender.close()
    rig.receiver.close()
    assert counts(rig.ours) == counts(rig.theirs) == ended("aborted")


def test_backends_are_told_apart() -> None:
    """By what the pool's engine says it is."""
    network = FakeNetwork()
    engine = FakeEngine(network, "us", Backend.SHM)
    metrics = TransferMetrics()
    pool = KvPool(LAYOUT, HostSlab, engine)
    receiver = KvReceiver(pool, PageAllocator(LAYOUT.num_pages), settings=SETTINGS,
                          observer=metrics)  # fmt: skip
    sender = KvSender(KvPool(LAYOUT, HostSlab, FakeEngine(network, "them", Backend.SHM)))
    incoming = receiver.open(NUM_TOKENS)
    assert incoming is not None
    outgoing = sender.begin(incoming.offer)
    for layer in range(LAYOUT.num_layers):
        outgoing.push_layer(layer, range(3), num_tokens=NUM_TOKENS)
    outgoing.finish(NUM_TOKENS)
    assert fault_of(incoming) is fault_of(outgoing) is None
    assert sender.close()
    assert receiver.close()
    assert counts(metrics)["bytes_total", "shm", "in"] == NUM_BYTES
