"""What the backends do to a load when they misbehave in ways that no real one can be told to."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import msgspec
import pytest
from hfx_transfer.engine.fake import FakeEngine, FakeNetwork, Scripted
from hfx_transfer.engine.protocol import Backend, RegionHandle, TransferEngine
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.engine.socket.engine import SocketEngine
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.memory.slab import Slab
from hfx_transfer.weights import LoadSettings, Seed, SeedSettings, hold_weights, load_weights
from hfx_transfer.weights.attempt import Hooks
from hfx_transfer.weights.engines import EngineSet
from hfx_transfer.weights.holding import Holding
from hfx_transfer.weights.loader import Loader, Outcome
from hfx_transfer.weights.source_state import SourceState
from support.weights import MIB, QUICK, Watch, by, file_contents, loaded_contents, served, within

from hfx_sgl.clock import WallClock
from hfx_sgl.errors import TransferError, TransferFault

IMPATIENT = by(Backend.SOCKET, progress_timeout_s=0.2)


class Rig:
    """Seeds and a loader on a network that goes by a script."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.network = FakeNetwork()
        self.slabs: list[HostSlab] = []
        self.discarded: list[Holding] = []
        self.watch = Watch()

    @contextmanager
    def seed(self, session: str) -> Iterator[Seed]:
        engine = cast(TransferEngine, FakeEngine(self.network, session))
        holding = hold_weights(self.path, chunk_bytes=MIB)
        settings = SeedSettings(backends=(Backend.SOCKET,))
        with Seed(holding, EngineSet(lambda _: engine), settings) as seed:
            yield seed

    def load(
        self, *urls: str, fallback: Path | None = None, settings: LoadSettings = IMPATIENT
    ) -> Outcome:
        engine = cast(TransferEngine, FakeEngine(self.network, "loader"))
        hooks = Hooks(
            check=lambda _: None,
            allocate=self._allocate,
            on_holding=lambda _: None,
            discard=self._discard,
            on_progress=lambda _: None,
        )
        return Loader(
            urls, fallback, settings, EngineSet(lambda _: engine), hooks,
            clock=WallClock(), observer=self.watch,
        ).run()  # fmt: skip

    def _allocate(self, sizes_bytes: Sequence[int]) -> list[Slab]:
        self.slabs += [HostSlab(size) for size in sizes_bytes]
        return [*self.slabs[-len(sizes_bytes) :]]

    def _discard(self, holding: Holding) -> None:
        self.discarded.append(holding)
        holding.close()


def contents(outcome: Outcome) -> dict[str, bytes]:
    slab = outcome.holding.slabs[0]
    return {
        place.name: bytes(slab.view()[place.offset_bytes : place.end_bytes])
        for place in outcome.holding.layout.tensors
        if place.size_bytes
    }


def nonempty(found: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in found.items() if content}


def test_single_failures_are_tried_again(weights_file: Path) -> None:
    rig = Rig(weights_file)
    failure = Scripted(fault=TransferFault.PEER_FAILED)
    rig.network.plan("a", Scripted(), failure, Scripted(), Scripted(), failure)
    with rig.seed("a") as seed:
        outcome = rig.load(seed.url)
    assert contents(outcome) == nonempty(file_contents(weights_file))
    assert rig.watch.failed == [TransferFault.PEER_FAILED] * 2
    assert outcome.sources[0].state is SourceState.FINISHED


def test_source_that_keeps_failing_is_given_up(weights_file: Path) -> None:
    rig = Rig(weights_file)
    rig.network.plan("a", *[Scripted(fault=TransferFault.PEER_FAILED)] * 30)
    with rig.seed("a") as bad, rig.seed("b") as good:
        outcome = rig.load(bad.url, good.url)
    assert len(rig.watch.failed) == QUICK.max_failures
    assert [report.state for report in outcome.sources] == [
        SourceState.FAILED,
        SourceState.FINISHED,
    ]


def test_bytes_that_arrive_wrong_once_are_pulled_again(weights_file: Path) -> None:
    rig = Rig(weights_file)
    rig.network.plan("a", Scripted(), Scripted(corrupts=True))
    with rig.seed("a") as seed:
        outcome = rig.load(seed.url)
    assert contents(outcome) == nonempty(file_contents(weights_file))
    assert rig.watch.failed == [TransferFault.DIGEST_MISMATCH]


def hang(rig: Rig, session: str) -> None:
    """Have the third transfer fail while the second never ends."""
    rig.network.plan(
        session, Scripted(), Scripted(hangs=True), Scripted(fault=TransferFault.PEER_FAILED)
    )


def test_memory_that_may_still_be_written_to_is_never_used_again(weights_file: Path) -> None:
    rig = Rig(weights_file)
    hang(rig, "a")
    with rig.seed("a") as bad, rig.seed("b") as good:
        with within(3):
            outcome = rig.load(bad.url, good.url)
        assert contents(outcome) == nonempty(file_contents(weights_file))
        given_up, used = rig.slabs
        assert outcome.holding.slabs == (used,)
        assert (given_up.num_pins, used.num_pins) == (1, 0)
        assert [holding.slabs for holding in rig.discarded] == [(given_up,)]
        # Its owner has closed it, and yet it is still there for whoever may write to it.
        assert given_up.view().nbytes == given_up.size_bytes
        assert [(report.url, report.is_quarantined) for report in outcome.sources] == [
            (bad.url, True),
            (good.url, False),
        ]


def test_disk_is_compared_with_what_a_quarantined_source_had(
    weights_file: Path, other_weights_file: Path
) -> None:
    rig = Rig(weights_file)
    hang(rig, "a")
    with rig.seed("a") as bad:
        with within(3):
            outcome = rig.load(bad.url, fallback=weights_file)
        assert outcome.is_verified
        assert contents(outcome) == nonempty(file_contents(weights_file))
        hang(rig, "a")
        with pytest.raises(TransferError, match="the files hold other weights") as caught:
            rig.load(bad.url, fallback=other_weights_file)
        assert bad.url in str(caught.value)


class Misleading:
    """A backend whose handles lead to somebody else."""

    def __init__(self, port: int) -> None:
        self._engine = SocketEngine(EngineSettings())
        self._port = port
        self.backend = Backend.SOCKET
        self.transport = "tcp"
        self.unregister = self._engine.unregister
        self.connect = self._engine.connect
        self.close = self._engine.close

    def register(self, slabs: Sequence[Slab], *, writable: bool) -> list[RegionHandle]:
        return [
            msgspec.structs.replace(handle, session=f"127.0.0.1:{self._port}")
            for handle in self._engine.register(slabs, writable=writable)
        ]


@contextmanager
def data_port(answer: bytes | None, *, listens: bool) -> Iterator[tuple[int, list[socket.socket]]]:
    """A port that answers every connection alike, or not at all; and these connections."""
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        if not listens:
            listener.close()
            yield port, connections
            return

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connections.append(listener.accept()[0])
                    if answer is not None:
                        connections[-1].sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield port, connections
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in connections:
            connection.close()


@pytest.mark.parametrize(
    ("answer", "listens", "fault"),
    [
        (None, True, "first_contact_timeout"),
        (bytes(range(256)), True, "protocol"),
        (None, False, "unreachable"),
    ],
    ids=["silence", "noise", "nobody"],
)
def test_data_port_with_somebody_else_behind_it(
    weights_file: Path, answer: bytes | None, listens: bool, fault: str
) -> None:
    holding = hold_weights(weights_file, chunk_bytes=MIB)
    settings = SeedSettings(backends=(Backend.SOCKET,))
    with data_port(answer, listens=listens) as (port, connections):
        engines = EngineSet(lambda _: cast(TransferEngine, Misleading(port)))
        with Seed(holding, engines, settings) as bad, served(weights_file, Backend.SOCKET) as good:
            with within(2):
                loaded = load_weights(from_=[bad.url, good.url], settings=QUICK)
            assert loaded_contents(loaded) == file_contents(weights_file)
            assert fault in str(loaded.sources[0].reason)
            # What does not speak our protocol is not asked again, with all lanes.
            assert len(connections) <= 2


def test_backend_that_cannot_be_reached_gives_way_to_the_next(weights_file: Path) -> None:
    """The seed claims memory of another host, as a seed behind the network does."""

    class Elsewhere(Misleading):
        def register(self, slabs: Sequence[Slab], *, writable: bool) -> list[RegionHandle]:
            return [
                RegionHandle(
                    backend=Backend.SHM, session="another host", base=0,
                    size_bytes=slab.size_bytes, name="hfx-" + "0" * 32, is_writable=False
                )
                for slab in slabs
            ]  # fmt: skip

    def start(backend: Backend) -> TransferEngine:
        if backend is Backend.SHM:
            return cast(TransferEngine, Elsewhere(1))
        return SocketEngine(EngineSettings())

    holding = hold_weights(weights_file, chunk_bytes=MIB)
    with Seed(holding, EngineSet(start), SeedSettings()) as seed:
        loaded = load_weights(from_=seed.url)
        assert loaded.sources[0].transport == "socket (tcp)"
        shm_only = by(Backend.SHM)
        with pytest.raises(TransferError, match="of another host or container"):
            load_weights(from_=seed.url, settings=shm_only)
        with pytest.raises(TransferError, match="it offers shm, socket, none of which is wanted"):
            load_weights(from_=seed.url, settings=by(Backend.MOONCAKE))


def test_no_backend_works_at_the_seed(weights_file: Path) -> None:
    def start(backend: Backend) -> TransferEngine:
        raise TransferError(f"no {backend} here", fault=TransferFault.UNAVAILABLE)

    with pytest.raises(TransferError, match=r"no shm here.*no socket here"):
        Seed(hold_weights(weights_file), EngineSet(start), SeedSettings())


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://127.0.0.1/", "http://[bad"])
def test_what_is_no_url(url: str) -> None:
    with within(1), pytest.raises(TransferError, match="no source is left"):
        load_weights(from_=url)
