"""Each fault while weights are pulled: a completed fail-over or a clean error, in bounded time."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.weights import Seed, hold_weights, load_weights
from hfx_transfer.weights.source_state import SourceState
from support.weights import (
    MIB,
    QUICK,
    SeedProcess,
    Watch,
    by,
    file_contents,
    loaded_contents,
    served,
    within,
)

from hfx_sgl.errors import TransferError, TransferFault

StartSeed = Callable[..., SeedProcess]

BOTH_WAYS = pytest.mark.parametrize("backend", [Backend.SOCKET, Backend.SHM])


@BOTH_WAYS
def test_source_killed_another_takes_over(
    weights_file: Path, start_seed: StartSeed, backend: Backend
) -> None:
    first, second = start_seed(weights_file, backend), start_seed(weights_file, backend)
    watch = Watch(3, first.kill)
    with within(2):
        loaded = load_weights(from_=[first.url, second.url], settings=by(backend), observer=watch)
    assert loaded_contents(loaded) == file_contents(weights_file)
    assert loaded.sources[0].num_bytes >= 3 * MIB
    assert sum(report.num_bytes for report in loaded.sources) == loaded.layout.size_bytes
    if backend is Backend.SOCKET:
        assert loaded.sources[0].state is SourceState.FAILED
        assert loaded.sources[1].state is SourceState.FINISHED
        assert loaded.sources[1].num_bytes > 0


def test_source_killed_nobody_else(weights_file: Path, start_seed: StartSeed) -> None:
    only = start_seed(weights_file, Backend.SOCKET)
    watch = Watch(3, only.kill)
    with within(2), pytest.raises(TransferError, match="no source is left") as caught:
        load_weights(from_=only.url, settings=QUICK, observer=watch)
    assert caught.value.fault is TransferFault.NO_SOURCE_LEFT
    assert only.url in str(caught.value)
    assert "no fallback was given" in str(caught.value)
    assert watch.ended == [TransferFault.NO_SOURCE_LEFT]


def test_source_stopped_another_takes_over(weights_file: Path, start_seed: StartSeed) -> None:
    first, second = (start_seed(weights_file, Backend.SOCKET) for _ in range(2))
    watch = Watch(3, lambda: first.signal(signal.SIGSTOP))
    with within(3):
        loaded = load_weights(from_=[first.url, second.url], settings=QUICK, observer=watch)
    assert loaded_contents(loaded) == file_contents(weights_file)
    assert "stalled" in str(loaded.sources[0].reason)
    assert loaded.sources[1].num_bytes > 0


def test_source_stopped_nobody_else(weights_file: Path, start_seed: StartSeed) -> None:
    only = start_seed(weights_file, Backend.SOCKET)
    watch = Watch(3, lambda: only.signal(signal.SIGSTOP))
    with within(4), pytest.raises(TransferError, match="stalled"):
        load_weights(from_=only.url, settings=QUICK, observer=watch)


def test_two_sources_die_in_turn_and_the_disk_has_the_rest(
    weights_file: Path, start_seed: StartSeed
) -> None:
    first, second = (start_seed(weights_file, Backend.SOCKET) for _ in range(2))
    watch = Watch(3, first.kill)
    second_watch = Watch(9, second.kill)

    class Both(Watch):
        def moved(self, *args: object) -> None:
            watch.moved(*args)  # type: ignore[arg-type]
            second_watch.moved(*args)  # type: ignore[arg-type]

    with within(3):
        loaded = load_weights(
            from_=[first.url, second.url],
            fallback=weights_file,
            settings=QUICK,
            observer=Both(),
        )
    assert loaded_contents(loaded) == file_contents(weights_file)
    assert loaded.is_verified
    assert [report.state for report in loaded.sources] == [SourceState.FAILED] * 2
    pulled = sum(report.num_bytes for report in loaded.sources)
    assert 9 * MIB <= pulled < loaded.layout.size_bytes


def test_two_sources_die_in_turn_and_there_is_no_disk(
    weights_file: Path, start_seed: StartSeed, tmp_path: Path
) -> None:
    first, second = (start_seed(weights_file, Backend.SOCKET) for _ in range(2))

    def kill_both() -> None:
        first.kill()
        second.kill()

    with within(3), pytest.raises(TransferError) as caught:
        load_weights(
            from_=[first.url, second.url],
            fallback=tmp_path / "missing.safetensors",
            settings=QUICK,
            observer=Watch(3, kill_both),
        )
    assert caught.value.fault is TransferFault.NO_SOURCE_LEFT
    for listed in (first.url, second.url, "missing.safetensors: No such file"):
        assert listed in str(caught.value)


@pytest.mark.parametrize("accepts", [True, False], ids=["closed port", "full backlog"])
def test_unreachable_source(weights_file: Path, start_seed: StartSeed, accepts: bool) -> None:
    good = start_seed(weights_file, Backend.SOCKET)
    with unreachable(refuses=accepts) as url, within(2):
        loaded = load_weights(from_=[url, good.url], settings=QUICK)
    assert loaded_contents(loaded) == file_contents(weights_file)
    assert loaded.sources[0].state is not SourceState.FINISHED


@contextmanager
def unreachable(*, refuses: bool) -> Iterator[str]:
    """A port that nobody listens on, or one whose queue of connections is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if refuses:
            yield url
            return
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield url
        for filler in fillers:
            filler.close()


def test_unreachable_alone_is_an_error_in_time() -> None:
    with (
        unreachable(refuses=False) as url,
        within(1),
        pytest.raises(TransferError, match="unreachable") as caught,
    ):
        load_weights(from_=url, settings=QUICK)
    assert caught.value.fault is TransferFault.NO_SOURCE_LEFT


@contextmanager
def stranger(answer: bytes | None) -> Iterator[str]:
    """Accepts connections; then says nothing (None), or `answer`, whatever it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        open_ones = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                open_ones.append(connection)
                if answer is not None:
                    # Whoever has heard enough hangs up.
                    with suppress(OSError):
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in open_ones:
            connection.close()


STRANGERS = {
    "silence": (None, "first_contact_timeout"),
    "noise": (bytes(range(256)) * 40, "protocol"),
    "another service": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "protocol"),
    "endless headers": (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000, "protocol"),
    "endless answer": (b"HTTP/1.1 200 OK\r\n\r\n[", "first_contact_timeout"),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_stranger_on_the_port(weights_file: Path, start_seed: StartSeed, kind: str) -> None:
    answer, fault = STRANGERS[kind]
    with stranger(answer) as url:
        with within(1), pytest.raises(TransferError, match=fault) as caught:
            load_weights(from_=url, settings=QUICK)
        assert caught.value.fault is TransferFault.NO_SOURCE_LEFT
        good = start_seed(weights_file, Backend.SOCKET)
        with within(2):
            loaded = load_weights(from_=[url, good.url], settings=QUICK)
    assert loaded_contents(loaded) == file_contents(weights_file)


def test_nobody_is_sent_elsewhere(weights_file: Path, start_seed: StartSeed) -> None:
    good = start_seed(weights_file, Backend.SOCKET)
    answer = f"HTTP/1.1 302 Found\r\nlocation: {good.url}/manifest\r\ncontent-length: 0\r\n\r\n"
    with stranger(answer.encode()) as url, pytest.raises(TransferError, match="protocol"):
        load_weights(from_=url, settings=QUICK)


@BOTH_WAYS
def test_digest_mismatch_is_another_sources_turn(weights_file: Path, backend: Backend) -> None:
    with served(weights_file, backend) as bad, served(weights_file, backend) as good:
        spoil(bad, chunk=5)
        watch = Watch()
        loaded = load_weights(from_=[bad.url, good.url], settings=by(backend), observer=watch)
        assert loaded_contents(loaded) == file_contents(weights_file)
        assert "digest_mismatch: chunk 5" in str(loaded.sources[0].reason)
        assert set(watch.failed) == {TransferFault.DIGEST_MISMATCH}


def test_digest_mismatch_alone(weights_file: Path) -> None:
    with served(weights_file, Backend.SOCKET) as bad:
        spoil(bad, chunk=5)
        with within(2), pytest.raises(TransferError, match="digest_mismatch: chunk 5"):
            load_weights(from_=bad.url, settings=QUICK)


def spoil(seed: Seed, *, chunk: int) -> None:
    """Change a byte that the seed serves, as a broken memory would."""
    content = seed.holding.slabs[0].view()
    content[chunk * MIB + 7] ^= 1


@BOTH_WAYS
@pytest.mark.parametrize("at", [2, 24], ids=["early", "at the last chunk"])
def test_generation_changes_and_the_new_one_is_loaded(
    weights_file: Path, other_weights_file: Path, backend: Backend, at: int
) -> None:
    newer = hold_weights(other_weights_file, generation=7, chunk_bytes=MIB)
    with served(weights_file, backend) as seed:
        watch = Watch(at, lambda: seed.replace(newer))
        with within(3):
            loaded = load_weights(from_=seed.url, settings=by(backend), observer=watch)
        assert loaded.generation == 7
        assert loaded_contents(loaded) == file_contents(other_weights_file)


@pytest.mark.parametrize("at", [2, 24], ids=["early", "at the last chunk"])
def test_generation_changes_and_that_is_an_error(
    weights_file: Path, other_weights_file: Path, at: int
) -> None:
    newer = hold_weights(other_weights_file, generation=7, chunk_bytes=MIB)
    with served(weights_file, Backend.SOCKET) as seed:
        watch = Watch(at, lambda: seed.replace(newer))
        with within(2), pytest.raises(TransferError) as caught:
            load_weights(
                from_=seed.url, settings=by(Backend.SOCKET, max_restarts=0), observer=watch
            )
        assert caught.value.fault is TransferFault.GENERATION_CHANGED


def test_source_of_an_older_generation_is_left_out(
    weights_file: Path, other_weights_file: Path
) -> None:
    with (
        served(weights_file, Backend.SOCKET, generation=1) as old,
        served(other_weights_file, Backend.SOCKET, generation=2) as new,
    ):
        loaded = load_weights(from_=[old.url, new.url], settings=QUICK)
    assert loaded.generation == 2
    assert loaded_contents(loaded) == file_contents(other_weights_file)
    assert "incompatible: it holds generation 1, 2 is pulled" in str(loaded.sources[0].reason)


def test_disk_that_holds_other_weights_completes_nothing(
    weights_file: Path, other_weights_file: Path, start_seed: StartSeed
) -> None:
    only = start_seed(weights_file, Backend.SOCKET)
    with within(2), pytest.raises(TransferError, match="the files hold other weights"):
        load_weights(
            from_=only.url,
            fallback=other_weights_file,
            settings=QUICK,
            observer=Watch(3, only.kill),
        )
