"""Weights served and loaded by this project's own public calls."""

from collections.abc import Sequence

from hfx_transfer.engine.protocol import Backend
from hfx_transfer.weights.api import load_weights, serve_weights
from hfx_transfer.weights.loaded import LoadedWeights
from hfx_transfer.weights.seed import Seed
from hfx_transfer.weights.settings import LoadSettings, SeedSettings
from transfer_bench.content import Content, is_equal
from transfer_bench.crowd_plan import MAPPED as CROWD_MAPPED
from transfer_bench.crowd_plan import Pull
from transfer_bench.results import Crowd, Way
from transfer_bench.timing import Timed, timed, verified

_PAGE_BYTES = 4096
_CUDA_DEVICE = "cuda:0"
_SOURCE_WAIT_S = 20.0
"""Receivers begin together; the one that serves another is not up at once on a busy machine."""

BACKENDS = (Backend.SHM, Backend.MOONCAKE, Backend.SOCKET)
CROWD_BACKENDS = (Backend.SHM, Backend.SOCKET)

SETTINGS = {
    Way.MOONCAKE: LoadSettings(backends=(Backend.MOONCAKE,)),
    Way.SOCKET: LoadSettings(backends=(Backend.SOCKET,)),
    Way.SHM_COPY: LoadSettings(backends=(Backend.SHM,)),
    Way.SHM_CHECKED: LoadSettings(backends=(Backend.SHM,), share=True, verify_shared=True),
    Way.SHM: LoadSettings(backends=(Backend.SHM,), share=True),
    Way.CUDA: LoadSettings(device=_CUDA_DEVICE),
}
MAPPED = frozenset((Way.SHM, Way.SHM_CHECKED))


def serve(
    content: Content, backends: Sequence[Backend] = BACKENDS, host: str = "127.0.0.1"
) -> Seed:
    """Serve the weights of the file."""
    return serve_weights(content.path, settings=SeedSettings(host=host, backends=tuple(backends)))


def run_ours(content: Content, *, url: str, way: Way) -> Timed:
    """Load the weights once, by one way."""
    kept: list[LoadedWeights] = []

    def load() -> None:
        kept.append(load_weights(from_=url, settings=SETTINGS[way]))
        if way is Way.SHM:
            touch(kept[0])

    run = timed(load)
    loaded = kept.pop()
    try:
        transport = loaded.sources[0].transport or "mapped"
        is_right = holds(content, loaded) and is_as_asked(way, loaded)
    finally:
        loaded.close()
    return verified(run, is_right, transport)


class CrowdMember:
    """One of several receivers: loads, serves what it has while others need it, and leaves."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._loaded: LoadedWeights | None = None
        self._is_right = False

    def join(self, pull: Pull) -> Timed:
        """Load; what was loaded stays, and is served, until `leave`."""
        is_mapped = pull.crowd in CROWD_MAPPED
        settings = LoadSettings(
            backends=(Backend.SHM,) if is_mapped else (Backend.SOCKET,),
            share=is_mapped,
            verify_shared=pull.crowd is Crowd.SHM_CHECKED,
            source_wait_s=_SOURCE_WAIT_S,
        )
        reseed = None
        if pull.port is not None:
            reseed = SeedSettings(host=pull.host, port=pull.port, backends=(Backend.SOCKET,))

        def load() -> None:
            self._loaded = load_weights(from_=pull.url, settings=settings, reseed=reseed)
            if pull.crowd is Crowd.SHM:
                touch(self._loaded)

        run = timed(load)
        assert self._loaded is not None
        (source,) = self._loaded.sources
        self._is_right = (source.num_bytes == 0) is is_mapped
        return run

    def check(self) -> bool:
        """Whether what was loaded is what it should be, and came the way it should."""
        return self._is_right and self._loaded is not None and holds(self._content, self._loaded)

    def leave(self) -> None:
        """Stop serving and give the memory back."""
        if self._loaded is not None:
            self._loaded.close()
        self._loaded, self._is_right = None, False


def holds(content: Content, loaded: LoadedWeights) -> bool:
    """Whether every tensor is what it should be."""
    return is_equal(content, parts(loaded))


def is_as_asked(way: Way, loaded: LoadedWeights) -> bool:
    """Whether the bytes took the way that was to be measured, and were checked where it says so."""
    (source,) = loaded.sources
    if way in MAPPED:
        return source.num_bytes == 0
    wanted = SETTINGS[way].backends
    return loaded.is_verified and any(
        str(backend) in (source.transport or "") for backend in wanted
    )


def parts(loaded: LoadedWeights) -> dict[str, memoryview]:
    """Return the bytes of every tensor, on the host."""
    import torch

    return {
        name: memoryview(tensor.cpu().view(torch.uint8).numpy())
        for name, tensor in loaded.state_dict().items()
    }


def touch(loaded: LoadedWeights) -> None:
    """Read one byte of every page, so that all of them are mapped."""
    import torch

    for tensor in loaded.state_dict().values():
        tensor.view(torch.uint8)[::_PAGE_BYTES].clone()
