"""Receivers that serve while they load: chains, and what happens when a link of one breaks."""

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.weights import LeaseConfig, LoadedWeights, SeedSettings, load_weights
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

from hfx_sgl.errors import ConfigError

StartSeed = Callable[..., SeedProcess]

BOTH_WAYS = pytest.mark.parametrize("backend", [Backend.SOCKET, Backend.SHM])


def reseeding(backend: Backend, port: int = 0) -> SeedSettings:
    return SeedSettings(
        port=port, backends=(backend,), lease=LeaseConfig(duration_s=1.0), close_timeout_s=0.2
    )


class Pipeline:
    """A receiver that is held in the middle of its pull, and one that pulls from it."""

    def __init__(self, root_url: str, backend: Backend) -> None:
        self._backend = backend
        self._root_url = root_url
        self._half = threading.Event()
        self._go_on = threading.Event()
        self.results: dict[str, LoadedWeights] = {}
        self._threads: list[threading.Thread] = []

    def start_middle(self, port: int) -> None:
        def hold() -> None:
            self._half.set()
            assert self._go_on.wait(20)

        self._start(
            "middle", from_=self._root_url, observer=Watch(8, hold),
            reseed=reseeding(self._backend, port),
        )  # fmt: skip
        assert self._half.wait(20)

    def start_last(self, urls: list[str], watch: Watch) -> None:
        self._start("last", from_=urls, observer=watch)

    def release(self) -> None:
        self._go_on.set()

    def finish(self) -> None:
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def _start(self, name: str, **options: object) -> None:
        def run() -> None:
            self.results[name] = load_weights(
                settings=by(self._backend, source_wait_s=5.0),
                **options,  # type: ignore[arg-type]
            )

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()


@BOTH_WAYS
def test_chunks_are_passed_on_before_the_rest_has_arrived(
    weights_file: Path, backend: Backend, free_port: int
) -> None:
    with served(weights_file, backend) as root:
        pipeline = Pipeline(root.url, backend)
        pipeline.start_middle(free_port)
        watch = Watch()
        middle_url = f"http://127.0.0.1:{free_port}"
        pipeline.start_last([middle_url, root.url], watch)
        with within(5):
            while watch.num_moved < 4:
                time.sleep(0.01)
        # The one in the middle is held after its eighth chunk; three more may be under way there.
        assert watch.num_moved <= 11
        pipeline.release()
        pipeline.finish()
        last = pipeline.results["last"]
        assert loaded_contents(last) == file_contents(weights_file)
        assert [report.num_bytes for report in last.sources] == [24 * MIB, 0]
        pipeline.results["middle"].close()


def test_parent_that_is_not_there_yet_is_waited_for(weights_file: Path, free_port: int) -> None:
    with served(weights_file, Backend.SOCKET) as root:
        pipeline = Pipeline(root.url, Backend.SOCKET)
        pipeline.release()
        watch = Watch()
        pipeline.start_last([f"http://127.0.0.1:{free_port}", root.url], watch)
        time.sleep(0.5)
        assert watch.num_moved == 0
        pipeline.start_middle(free_port)
        pipeline.finish()
        assert [report.num_bytes for report in pipeline.results["last"].sources] == [24 * MIB, 0]
        pipeline.results["middle"].close()


def test_full_seed_after_loading_serves_without_the_root(
    weights_file: Path, start_seed: StartSeed
) -> None:
    root = start_seed(weights_file)
    with load_weights(from_=root.url, reseed=reseeding(Backend.SOCKET)) as first:
        root.kill()
        assert first.seed is not None
        second = load_weights(from_=first.seed.url, settings=by(Backend.SOCKET))
        assert loaded_contents(second) == file_contents(weights_file)
        assert second.model_hash == root.model_hash


def test_receiver_turns_to_the_root_when_its_parent_dies(
    weights_file: Path, start_seed: StartSeed, start_receiver: Callable[..., SeedProcess]
) -> None:
    root = start_seed(weights_file, Backend.SOCKET)
    parent = start_receiver(root.url)
    watch = Watch(3, parent.kill)
    with within(3):
        loaded = load_weights(
            from_=[parent.url, root.url], settings=by(Backend.SOCKET), observer=watch
        )
    assert loaded_contents(loaded) == file_contents(weights_file)
    assert loaded.sources[0].num_bytes >= 3 * MIB
    assert loaded.sources[1].num_bytes > 0


def test_port_that_is_taken_is_no_reason_not_to_load(
    weights_file: Path, start_seed: StartSeed
) -> None:
    root = start_seed(weights_file, Backend.SOCKET)
    taken = int(root.url.rpartition(":")[2])
    loaded = load_weights(from_=root.url, reseed=reseeding(Backend.SOCKET, taken))
    assert loaded.seed is None
    assert loaded_contents(loaded) == file_contents(weights_file)


def test_receiver_serves_with_the_token_of_its_sources() -> None:
    with pytest.raises(ConfigError, match=r"reseed.token: must be the token"):
        load_weights(from_="http://127.0.0.1:1", token="a", reseed=SeedSettings(token="b"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_parent_that_dies_while_it_is_loading_itself(
    weights_file: Path, start_seed: StartSeed, free_port: int, number: signal.Signals
) -> None:
    root = start_seed(weights_file, Backend.SOCKET)
    parent = HangingReceiver(root.url, free_port)
    try:
        # The parent has five chunks: nothing of it is under way then, so that only the silence of
        # its control plane tells that it is gone.
        watch = Watch(5, lambda: parent.signal(number))
        with within(8):
            loaded = load_weights(
                from_=[parent.url, root.url],
                settings=by(Backend.SOCKET, control_timeout_s=0.5),
                observer=watch,
            )
    finally:
        parent.kill()
    assert loaded_contents(loaded) == file_contents(weights_file)
    assert loaded.sources[0].num_bytes == 5 * MIB
    assert loaded.sources[1].num_bytes > 0


def test_two_sources_at_once_share_the_work(weights_file: Path, start_seed: StartSeed) -> None:
    seeds = [start_seed(weights_file, Backend.SOCKET) for _ in range(2)]
    loaded = load_weights(
        from_=[seed.url for seed in seeds],
        settings=by(Backend.SOCKET, max_active_sources=2),
        # Slows the first one to ask down, so that the other gets its turn.
        observer=Watch(1, lambda: time.sleep(0.5)),
    )
    assert loaded_contents(loaded) == file_contents(weights_file)
    assert all(report.num_bytes > 0 for report in loaded.sources)
    assert sum(report.num_bytes for report in loaded.sources) == 24 * MIB
