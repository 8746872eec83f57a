"""The same faults with Mooncake under the weights, in namespaces that have only loopback."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.weights import LoadSettings, SeedSettings, hold_weights, load_weights
from hfx_transfer.weights.source_state import SourceState
from support.loopback import in_loopback
from support.weights import (
    MIB,
    HangingReceiver,
    SeedProcess,
    Watch,
    by,
    file_contents,
    loaded_contents,
    served,
    within,
)

from hfx_sgl.errors import TransferError, TransferFault


def mooncake(**changes: object) -> LoadSettings:
    # Mooncake takes whole seconds, and one is too little on a busy machine.
    return by(Backend.MOONCAKE, progress_timeout_s=2.0, first_contact_timeout_s=3.0, **changes)


def mooncake_of_the_seed() -> LoadSettings:
    """What goes with a seed in the same process: Mooncake has one set of timeouts for both."""
    engine = SeedSettings().engine_settings()
    return by(
        Backend.MOONCAKE,
        progress_timeout_s=engine.progress_timeout_s,
        first_contact_timeout_s=engine.first_contact_timeout_s,
    )


@contextmanager
def seeds(path: Path, num: int) -> Iterator[list[SeedProcess]]:
    started = [SeedProcess(path, Backend.MOONCAKE) for _ in range(num)]
    try:
        yield started
    finally:
        for seed in started:
            seed.kill()


@in_loopback
def test_weights_arrive_and_the_transport_is_told_truthfully(weights_file: Path) -> None:
    with seeds(weights_file, 1) as (seed,):
        loaded = load_weights(from_=seed.url, settings=mooncake())
        assert loaded.is_verified
        assert loaded_contents(loaded) == file_contents(weights_file)
        assert loaded.sources[0].transport == "mooncake (tcp)"


@in_loopback
def test_source_killed(weights_file: Path) -> None:
    with seeds(weights_file, 2) as (first, second):
        with within(3):
            loaded = load_weights(
                from_=[first.url, second.url], settings=mooncake(), observer=Watch(3, first.kill)
            )
        assert loaded_contents(loaded) == file_contents(weights_file)
        assert loaded.sources[0].state is SourceState.FAILED
        assert loaded.sources[1].num_bytes > 0


@in_loopback
def test_source_stopped(weights_file: Path) -> None:
    with seeds(weights_file, 2) as (first, second):
        with within(8):
            loaded = load_weights(
                from_=[first.url, second.url],
                settings=mooncake(),
                observer=Watch(3, lambda: first.signal(signal.SIGSTOP)),
            )
        assert loaded_contents(loaded) == file_contents(weights_file)
        assert loaded.sources[0].state is SourceState.FAILED
        assert loaded.sources[1].num_bytes > 0


@in_loopback
def test_both_sources_die_in_turn(weights_file: Path, tmp_path: Path) -> None:
    with seeds(weights_file, 2) as (first, second):
        second_watch = Watch(9, second.kill)

        class Both(Watch):
            def moved(self, *args: object) -> None:
                super().moved(*args)  # type: ignore[arg-type]
                second_watch.moved(*args)  # type: ignore[arg-type]

        with within(6), pytest.raises(TransferError) as caught:
            load_weights(
                from_=[first.url, second.url],
                fallback=tmp_path / "missing",
                settings=mooncake(),
                observer=Both(3, first.kill),
            )
    assert caught.value.fault is TransferFault.NO_SOURCE_LEFT
    for listed in (first.url, second.url, "missing: No such file"):
        assert listed in str(caught.value)


@in_loopback
def test_digest_mismatch(weights_file: Path) -> None:
    with served(weights_file, Backend.MOONCAKE) as bad, seeds(weights_file, 1) as (good,):
        bad.holding.slabs[0].view()[5 * MIB] ^= 1
        loaded = load_weights(from_=[bad.url, good.url], settings=mooncake_of_the_seed())
        assert loaded_contents(loaded) == file_contents(weights_file)
        assert "digest_mismatch: chunk 5" in str(loaded.sources[0].reason)


@in_loopback
def test_generation_changed(weights_file: Path, other_weights_file: Path) -> None:
    newer = hold_weights(other_weights_file, generation=7, chunk_bytes=MIB)
    with served(weights_file, Backend.MOONCAKE) as seed:
        loaded = load_weights(
            from_=seed.url,
            settings=mooncake_of_the_seed(),
            observer=Watch(2, lambda: seed.replace(newer)),
        )
        assert loaded.generation == 7
        assert loaded_contents(loaded) == file_contents(other_weights_file)


@in_loopback
def test_receiver_killed(weights_file: Path, other_weights_file: Path) -> None:
    with served(weights_file, Backend.MOONCAKE) as seed:
        receiver = HangingReceiver(seed.url, backend=Backend.MOONCAKE)
        old = seed.holding
        assert [slab.num_pins for slab in old.slabs] == [1]
        receiver.kill()
        seed.replace(hold_weights(other_weights_file, generation=1, chunk_bytes=MIB))
        with within(2):
            while seed.num_leases:
                time.sleep(0.02)
        assert [slab.num_pins for slab in old.slabs] == [0]
        loaded = load_weights(from_=seed.url, settings=mooncake_of_the_seed())
        assert loaded_contents(loaded) == file_contents(other_weights_file)


@in_loopback
def test_nothing_lands_in_memory_that_was_given_back(weights_file: Path) -> None:
    kept: list[memoryview] = []
    allocate: Callable[[HostSlab], memoryview] = HostSlab.view
    with seeds(weights_file, 1) as (seed,):
        watch = Watch(3, lambda: seed.signal(signal.SIGSTOP))
        with pytest.MonkeyPatch.context() as patch:
            original = HostSlab.__init__

            def remember(self: HostSlab, size_bytes: int, **options: bool) -> None:
                original(self, size_bytes, **options)
                kept.append(allocate(self))

            patch.setattr(HostSlab, "__init__", remember)
            with within(8), pytest.raises(TransferError, match="no source is left"):
                load_weights(from_=seed.url, settings=mooncake(), observer=watch)
        before = [bytes(view) for view in kept]
        assert any(any(content) for content in before)
        seed.signal(signal.SIGCONT)
        time.sleep(2.0)
        assert [bytes(view) for view in kept] == before
