import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hfx_transfer.engine.protocol import Backend
from support.weights import SeedProcess, write_weights

StartSeed = Callable[..., SeedProcess]


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "model.safetensors")


@pytest.fixture(scope="session")
def other_weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "model.safetensors", seed=1)


@pytest.fixture
def start_seed() -> Iterator[StartSeed]:
    started: list[SeedProcess] = []

    def start(path: Path, *backends: Backend, **options: object) -> SeedProcess:
        started.append(SeedProcess(path, *backends, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for seed in started:
        seed.kill()


@pytest.fixture
def start_receiver() -> Iterator[Callable[[str], SeedProcess]]:
    """Starts `hfx-weights pull --serve-port 0`, which is a seed when it has printed its URL."""
    started: list[SeedProcess] = []

    def start(url: str) -> SeedProcess:
        started.append(SeedProcess.pulling_from(url))
        return started[-1]

    yield start
    for seed in started:
        seed.kill()


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
