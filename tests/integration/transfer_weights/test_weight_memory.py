"""Who may touch memory, and until when: leases at the seed, slabs at the receiver."""

import gc
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hfx_transfer.engine.capability import open_engine
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.memory.shared import SHARED_MEMORY_FOLDER
from hfx_transfer.memory.slab import Slab
from hfx_transfer.weights import LoadSettings, hold_weights, load_weights
from hfx_transfer.weights.attempt import Hooks
from hfx_transfer.weights.engines import EngineSet
from hfx_transfer.weights.holding import Holding
from hfx_transfer.weights.layout import Layout
from hfx_transfer.weights.loader import Loader
from support.weights import (
    MIB,
    QUICK,
    HangingReceiver,
    SeedProcess,
    Watch,
    by,
    file_contents,
    served,
    within,
)

from hfx_sgl.clock import WallClock
from hfx_sgl.errors import TransferError

StartSeed = Callable[..., SeedProcess]


class Buffers:
    """Slabs for a load that the test keeps looking at when the load has given them back."""

    def __init__(self) -> None:
        self.slabs: list[HostSlab] = []
        self.views: list[memoryview] = []
        self.discarded_at_pins: list[int] = []

    def allocate(self, sizes_bytes: Sequence[int]) -> list[Slab]:
        new = [HostSlab(size) for size in sizes_bytes]
        self.slabs += new
        self.views += [slab.view() for slab in new]
        return [*new]

    def discard(self, holding: Holding) -> None:
        self.discarded_at_pins.append(sum(slab.num_pins for slab in holding.slabs))
        holding.close()

    def load(self, url: str, settings: LoadSettings, watch: Watch) -> None:
        engines = EngineSet(lambda backend: open_engine(backend, settings.engine_settings()))
        hooks = Hooks(
            check=_accept,
            allocate=self.allocate,
            on_holding=lambda _: None,
            discard=self.discard,
            on_progress=lambda _: None,
        )
        try:
            Loader([url], None, settings, engines, hooks, clock=WallClock(), observer=watch).run()
        finally:
            engines.close()


def _accept(layout: Layout) -> None:
    assert layout.size_bytes > 0


def test_no_byte_lands_after_the_memory_was_handed_back(
    weights_file: Path, start_seed: StartSeed
) -> None:
    seed = start_seed(weights_file, Backend.SOCKET)
    buffers = Buffers()
    watch = Watch(3, lambda: seed.signal(signal.SIGSTOP))
    with within(4), pytest.raises(TransferError, match="stalled"):
        buffers.load(seed.url, QUICK, watch)
    assert buffers.discarded_at_pins == [0]
    before = [bytes(view) for view in buffers.views]
    assert any(before[0])
    seed.signal(signal.SIGCONT)
    time.sleep(1.0)
    assert [bytes(view) for view in buffers.views] == before


def test_receiver_killed_its_lease_runs_out_and_the_memory_goes(
    weights_file: Path, other_weights_file: Path
) -> None:
    with served(weights_file, Backend.SHM) as seed:
        receiver = HangingReceiver(seed.url, backend=Backend.SHM)
        assert seed.num_leases == 1
        old = seed.holding
        names = [slab.shared_name for slab in old.slabs]
        receiver.kill()
        seed.replace(hold_weights(other_weights_file, generation=1, chunk_bytes=MIB))
        with within(2):
            while seed.num_leases:
                time.sleep(0.02)
        assert [slab.num_pins for slab in old.slabs] == [0]
        with pytest.raises(ValueError, match="closed"):
            old.slabs[0].view()
        assert not any((SHARED_MEMORY_FOLDER / str(name)).exists() for name in names)


def test_living_receiver_keeps_its_lease_for_longer_than_it_runs(weights_file: Path) -> None:
    with served(weights_file, Backend.SOCKET) as seed:
        seen: list[int] = []

        def linger() -> None:
            time.sleep(2.5)
            seen.append(seed.num_leases)

        load_weights(from_=seed.url, settings=QUICK, observer=Watch(2, linger))
        assert seen == [1]
        assert seed.num_leases == 0


def test_withdraw_waits_for_the_receivers(weights_file: Path) -> None:
    with served(weights_file, Backend.SOCKET) as seed:
        began, done = threading.Event(), threading.Event()
        faults: list[TransferError] = []

        def hold_on() -> None:
            began.set()
            done.wait(0.5)

        def load() -> None:
            try:
                load_weights(
                    from_=seed.url,
                    settings=by(Backend.SOCKET, max_restarts=0),
                    observer=Watch(2, hold_on),
                )
            except TransferError as exc:
                faults.append(exc)

        thread = threading.Thread(target=load)
        thread.start()
        assert began.wait(10)
        assert seed.withdraw()
        assert seed.num_leases == 0
        done.set()
        thread.join(10)
        assert [error.fault for error in faults] == ["generation_changed"]


def test_shared_weights_outlive_their_seed(weights_file: Path, start_seed: StartSeed) -> None:
    torch = pytest.importorskip("torch")
    seed = start_seed(weights_file, Backend.SHM)
    loaded = load_weights(from_=seed.url, share=True)
    tensors = loaded.state_dict()
    assert not loaded.is_verified
    assert all(slab.shared_name is None for slab in loaded.holding.slabs)
    again = load_weights(from_=seed.url, share=True)
    tensors["layer.0"][:16] = 255
    seed.kill()
    loaded.close()
    del loaded
    gc.collect()
    expected = file_contents(weights_file)
    for name, tensor in again.state_dict().items():
        assert tensor.cpu().view(torch.uint8).numpy().tobytes() == expected[name]
    assert bytes(tensors["layer.0"][:16].numpy()) == b"\xff" * 16
    assert tensors["layer.1"].numpy().tobytes() == expected["layer.1"]


def test_share_falls_back_to_copying(weights_file: Path) -> None:
    with served(weights_file, Backend.SOCKET) as seed:
        loaded = load_weights(from_=seed.url, share=True)
        assert loaded.is_verified
        assert loaded.sources[0].transport == "socket (tcp)"
