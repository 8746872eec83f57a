from typing import cast

import pytest
from hfx_transfer.engine.fake import FakeEngine, FakeNetwork
from hfx_transfer.engine.protocol import Backend, TransferEngine
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.weights.engines import EngineSet

from hfx_sgl.errors import ConfigError, TransferError, TransferFault


class Rig:
    def __init__(self) -> None:
        self.started: list[Backend] = []
        self.network = FakeNetwork()
        self.engines = EngineSet(self._start)

    def _start(self, backend: Backend) -> TransferEngine:
        self.started.append(backend)
        if backend is Backend.SHM:
            raise TransferError("no shared memory", fault=TransferFault.UNAVAILABLE)
        if backend is Backend.MOONCAKE:
            raise ConfigError("ports: too high")
        return cast(TransferEngine, FakeEngine(self.network, "own", backend))


def test_engines_start_when_they_are_needed_and_once() -> None:
    rig = Rig()
    assert rig.started == []
    assert rig.engines.get(Backend.SOCKET) is rig.engines.get(Backend.SOCKET)
    assert rig.started == [Backend.SOCKET]


@pytest.mark.parametrize(
    ("backend", "message"),
    [(Backend.SHM, "no shared memory"), (Backend.MOONCAKE, "cannot be set up: ports: too high")],
)
def test_backend_that_does_not_work_says_the_same_each_time(backend: Backend, message: str) -> None:
    rig = Rig()
    for _ in range(2):
        with pytest.raises(TransferError, match=message) as caught:
            rig.engines.get(backend)
        assert caught.value.fault is TransferFault.UNAVAILABLE
    assert rig.started == [backend]


def test_slab_is_reachable_until_its_last_user_is_gone() -> None:
    rig = Rig()
    first, second = HostSlab(100), HostSlab(100)
    (handle,) = rig.engines.register(Backend.SOCKET, [first])
    assert rig.engines.register(Backend.SOCKET, [first, second])[0] == handle
    rig.engines.unregister(Backend.SOCKET, [first])
    assert rig.network.reach(handle) == (first, False), "peers may read weights, not write"
    rig.engines.unregister(Backend.SOCKET, [first, second])
    with pytest.raises(TransferError):
        rig.network.reach(handle)
    (again,) = rig.engines.register(Backend.SOCKET, [first])
    assert rig.network.reach(again).slab is first


def test_nothing_starts_after_the_end() -> None:
    rig = Rig()
    (handle,) = rig.engines.register(Backend.SOCKET, [HostSlab(100)])
    rig.engines.close()
    rig.engines.close()
    with pytest.raises(TransferError):
        rig.network.reach(handle)
    with pytest.raises(TransferError, match="the engines were closed"):
        rig.engines.get(Backend.FILE)
    assert rig.started == [Backend.SOCKET]
