import threading
from collections.abc import Callable, Iterator

import pytest
from hfx_transfer.engine.fake import FakeEngine, FakeNetwork, FakePeer, Scripted
from hfx_transfer.engine.window import Span, WindowLimits, pull, push
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.memory.slab import Slab
from support.slabs import filled

from hfx_sgl.clock import FakeClock
from hfx_sgl.errors import TransferError, TransferFault

CHUNK = 64
NUM_CHUNKS = 20
SEED = "seed"


class Rig:
    """A slab of twenty chunks at a fake peer, and one of the same size here."""

    def __init__(self) -> None:
        self.network = FakeNetwork()
        self.clock = FakeClock()
        self.remote = filled(HostSlab(CHUNK * NUM_CHUNKS), 1)
        self.local = HostSlab(CHUNK * NUM_CHUNKS)
        self.done: list[int] = []
        engine = FakeEngine(self.network, SEED)
        [handle] = engine.register([self.remote], writable=True)
        client = FakeEngine(self.network, "client")
        self.peer: FakePeer = client.connect(handle, first_contact_timeout_s=1)

    def spans(self, count: int = NUM_CHUNKS) -> list[Span]:
        return [
            Span(local=self.local, local_offset=o, remote_offset=o, size_bytes=CHUNK)
            for o in range(0, count * CHUNK, CHUNK)
        ]

    def pull(
        self,
        *,
        spans: Iterator[Span] | None = None,
        limits: WindowLimits | None = None,
        abort: threading.Event | None = None,
        on_done: Callable[[Span, str | None], None] | None = None,
        pause: Callable[[float], None] | None = None,
    ) -> None:
        pull(
            self.peer,
            self.spans() if spans is None else spans,
            clock=self.clock,
            on_done=on_done or (lambda span, digest: self.done.append(span.remote_offset // CHUNK)),
            limits=limits,
            abort=abort,
            pause=pause or self.clock.advance,
        )


def differing_chunks(one: Slab, other: Slab) -> list[int]:
    ours, theirs = bytes(one.view()), bytes(other.view())
    return [
        i for i in range(NUM_CHUNKS) if ours[i * CHUNK :][:CHUNK] != theirs[i * CHUNK :][:CHUNK]
    ]


def test_a_pull_brings_every_byte_and_reports_every_span_once() -> None:
    rig = Rig()
    rig.pull()
    assert rig.local.view() == rig.remote.view()
    assert sorted(rig.done) == list(range(NUM_CHUNKS))
    assert (rig.local.num_pins, rig.network.num_under_way) == (0, 0)


def test_a_push_takes_every_byte_there() -> None:
    rig = Rig()
    filled(rig.local, 2)
    push(
        rig.peer,
        rig.spans(),
        clock=rig.clock,
        on_done=lambda span, digest: None,
        pause=rig.clock.advance,
    )
    assert rig.local.view() == rig.remote.view()
    assert rig.local.num_pins == 0


@pytest.mark.parametrize("window", [1, 4, 7, 100])
def test_the_window_is_filled_and_never_exceeded(window: int) -> None:
    rig = Rig()
    rig.network.plan(SEED, *[Scripted(polls=3)] * NUM_CHUNKS)
    rig.pull(limits=WindowLimits(window=window))
    assert rig.network.most_under_way == min(window, NUM_CHUNKS)


def test_spans_are_reported_as_they_finish_not_as_they_began() -> None:
    rig = Rig()
    rig.network.plan(SEED, Scripted(polls=5), Scripted(polls=1), Scripted(polls=3))
    rig.pull(spans=iter(rig.spans(3)))
    assert rig.done == [1, 2, 0]


def test_spans_are_taken_only_when_there_is_room() -> None:
    rig = Rig()
    taken: list[int] = []

    def spans() -> Iterator[Span]:
        for number, span in enumerate(rig.spans()):
            taken.append(number)
            yield span

    at_report = []
    rig.pull(
        spans=spans(),
        limits=WindowLimits(window=2),
        on_done=lambda span, digest: at_report.append((span.remote_offset // CHUNK, len(taken))),
    )
    assert all(num_taken <= chunk + 2 for chunk, num_taken in at_report)
    assert len(at_report) == NUM_CHUNKS


def test_nothing_to_pull_is_done_at_once() -> None:
    rig = Rig()
    rig.pull(spans=iter(()))
    assert (rig.done, rig.network.num_submitted[SEED]) == ([], 0)


def test_pauses_grow_from_a_fifth_of_a_millisecond_to_two_and_begin_anew() -> None:
    rig = Rig()
    pauses: list[float] = []
    rig.network.plan(SEED, Scripted(polls=12), Scripted(polls=3))
    rig.pull(spans=iter(rig.spans(2)), limits=WindowLimits(window=1), pause=pauses.append)
    assert pauses[0] == pytest.approx(0.0002)
    assert max(pauses) == pytest.approx(0.002)
    assert pauses[:11] == sorted(pauses[:11])
    assert pauses[11] == pytest.approx(0.0002)


def test_a_failure_stops_the_rest_and_is_told_when_all_others_have_ended() -> None:
    rig = Rig()
    rig.network.plan(
        SEED,
        Scripted(polls=9),
        Scripted(polls=2, fault=TransferFault.PEER_FAILED),
        Scripted(polls=9),
    )
    with pytest.raises(TransferError, match=r"64 bytes at 64 .*peer failed") as caught:
        rig.pull(limits=WindowLimits(window=3))
    assert caught.value.fault is TransferFault.PEER_FAILED
    assert not caught.value.quarantined
    assert rig.network.num_submitted[SEED] == 3
    assert (rig.network.num_under_way, rig.local.num_pins) == (0, 0)


def test_what_finished_beside_a_failure_is_still_reported() -> None:
    rig = Rig()
    rig.network.plan(SEED, Scripted(), Scripted(fault=TransferFault.STALLED), Scripted())
    with pytest.raises(TransferError):
        rig.pull(limits=WindowLimits(window=3))
    assert rig.done == [0]


def test_what_never_ends_is_quarantined_within_the_limit() -> None:
    rig = Rig()
    rig.network.plan(SEED, Scripted(hangs=True), Scripted(fault=TransferFault.STALLED))
    with pytest.raises(TransferError, match="1 transfers have not ended after 2 s") as caught:
        rig.pull(limits=WindowLimits(window=2, drain_timeout_s=2.0))
    assert caught.value.quarantined
    assert caught.value.fault is TransferFault.STALLED
    assert 2.0 <= rig.clock.now_s() < 2.1
    assert rig.local.num_pins == 1
    rig.local.close()
    assert rig.local.view(), "the bytes stay in place while something may write to them"


def test_an_abort_begins_nothing_more_and_waits_for_what_is_under_way() -> None:
    rig = Rig()
    abort = threading.Event()
    rig.network.plan(SEED, *[Scripted(polls=2)] * NUM_CHUNKS)

    def stop_at_the_third(span: Span, digest: str | None) -> None:
        rig.done.append(span.remote_offset // CHUNK)
        if len(rig.done) == 3:
            abort.set()

    with pytest.raises(TransferError, match="aborted") as caught:
        rig.pull(abort=abort, on_done=stop_at_the_third)
    assert caught.value.fault is TransferFault.ABORTED
    assert rig.network.num_submitted[SEED] <= 3 + 2 * 4
    assert (rig.network.num_under_way, rig.local.num_pins) == (0, 0)


def test_a_wrong_digest_ends_the_pull_with_nothing_under_way() -> None:
    rig = Rig()
    rig.network.plan(SEED, Scripted(), Scripted(), Scripted(corrupts=True))

    def verify(span: Span, digest: str | None) -> None:
        number = span.remote_offset // CHUNK
        if number in differing_chunks(rig.local, rig.remote):
            raise TransferError("bad", fault=TransferFault.DIGEST_MISMATCH)

    with pytest.raises(TransferError) as caught:
        rig.pull(on_done=verify)
    assert caught.value.fault is TransferFault.DIGEST_MISMATCH
    assert (rig.network.num_under_way, rig.local.num_pins) == (0, 0)


def test_an_error_of_the_caller_passes_through_with_nothing_under_way() -> None:
    rig = Rig()

    def fail(span: Span, digest: str | None) -> None:
        raise KeyError(span.remote_offset)

    with pytest.raises(KeyError):
        rig.pull(on_done=fail)
    assert (rig.network.num_under_way, rig.local.num_pins) == (0, 0)


def test_a_span_outside_of_the_slab_is_refused_with_nothing_under_way() -> None:
    rig = Rig()
    outside = Span(local=rig.local, local_offset=0, remote_offset=CHUNK, size_bytes=CHUNK * 20)
    with pytest.raises(ValueError, match="no such span"):
        rig.pull(spans=iter([*rig.spans(2), outside]))
    assert (rig.network.num_under_way, rig.local.num_pins) == (0, 0)


@pytest.mark.parametrize(("window", "drain_timeout_s"), [(0, 1.0), (4, 0.0)])
def test_limits_have_bounds(window: int, drain_timeout_s: float) -> None:
    with pytest.raises(ValueError, match="window must be at least 1"):
        WindowLimits(window=window, drain_timeout_s=drain_timeout_s)
