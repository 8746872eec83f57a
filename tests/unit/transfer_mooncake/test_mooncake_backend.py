import os
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hfx_transfer.engine.mooncake import native_library
from hfx_transfer.engine.mooncake.backend import MooncakeEngine
from hfx_transfer.engine.mooncake.native_library import Library
from hfx_transfer.engine.protocol import Backend, RegionHandle
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.memory.host import HostSlab
from support.native_mooncake import FakeNative

from hfx_sgl.clock import FakeClock
from hfx_sgl.errors import TransferError, TransferFault

HANDLE = RegionHandle(
    backend=Backend.MOONCAKE, session="127.0.0.1:1", base=4096, size_bytes=4096, is_writable=True
)
LIMIT_S = 10.0


class Rig:
    """An engine whose native engines are fakes, in the order in which they were made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, settings: EngineSettings | None = None):
        self.natives: list[FakeNative] = []
        self.prepare: Callable[[int, FakeNative], None] = lambda number, native: None
        module = SimpleNamespace(TransferEngine=self._make)
        monkeypatch.setenv("MC_FORCE_TCP", "1")
        monkeypatch.setattr(native_library, "load", lambda _: Library(module=module, extra="cpu"))
        self.clock = FakeClock()
        self.engine = MooncakeEngine(settings or EngineSettings(), clock=self.clock)

    def _make(self) -> FakeNative:
        native = FakeNative()
        self.natives.append(native)
        self.prepare(len(self.natives), native)
        return native

    def connect(self) -> None:
        self.engine.connect(HANDLE, first_contact_timeout_s=LIMIT_S).close()


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def test_a_first_read_that_fails_is_tried_once_more_on_another_link(rig: Rig) -> None:
    rig.connect()
    rig.natives[1].statuses.append(-1)
    rig.connect()
    assert len(rig.natives) == 3
    # The peer belongs to the new link from here on.
    rig.connect()
    assert len(rig.natives[1].submitted) == 2
    assert len(rig.natives[2].submitted) == 2


def test_and_not_more_often_than_that(rig: Rig) -> None:
    rig.prepare = lambda number, native: native.statuses.append(-1)
    with pytest.raises(TransferError, match="does not offer 4096 bytes at 0x1000") as caught:
        rig.connect()
    assert caught.value.fault is TransferFault.UNREACHABLE
    assert len(rig.natives) == 3


def test_a_refusal_is_only_doubted_when_the_link_had_met_the_peer(rig: Rig) -> None:
    rig.connect()
    rig.natives[1].refuses = True
    rig.connect()
    assert len(rig.natives) == 3
    rig.natives[2].refuses = True
    rig.prepare = lambda number, native: setattr(native, "refuses", True)
    with pytest.raises(TransferError, match="nobody answers") as caught:
        rig.connect()
    assert caught.value.fault is TransferFault.UNREACHABLE
    num_natives = len(rig.natives)
    with pytest.raises(TransferError):
        rig.engine.connect(
            RegionHandle(
                backend=Backend.MOONCAKE,
                session="127.0.0.1:2",
                base=1,
                size_bytes=1,
                is_writable=True,
            ),
            first_contact_timeout_s=LIMIT_S,
        )
    assert len(rig.natives) == num_natives


def test_silence_is_not_tried_again(rig: Rig) -> None:
    answer = threading.Event()
    rig.prepare = lambda number, native: setattr(native, "on_open", lambda: answer.wait(LIMIT_S))
    with pytest.raises(TransferError, match=r"within 0\.01 s") as caught:
        rig.engine.connect(HANDLE, first_contact_timeout_s=0.01)
    assert caught.value.fault is TransferFault.FIRST_CONTACT_TIMEOUT
    assert rig.engine.probe(HANDLE.session, timeout_s=0.01) is None
    answer.set()
    assert len(rig.natives) == 3


def test_an_engine_that_finds_no_port_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = iter([-1, -1, 0])
    monkeypatch.setattr(FakeNative, "initialize", lambda *_: next(codes))
    assert len(Rig(monkeypatch).natives) == 3
    monkeypatch.setattr(FakeNative, "initialize", lambda *_: -1)
    with pytest.raises(TransferError, match=r"no engine for 127\.0\.0\.1") as caught:
        Rig(monkeypatch)
    assert caught.value.fault is TransferFault.UNAVAILABLE


@pytest.mark.parametrize(
    ("host", "session"), [("10.1.2.3", "10.1.2.3:15000"), ("fd00::1", "[fd00::1]:15000")]
)
def test_handles_name_the_advertised_host(
    monkeypatch: pytest.MonkeyPatch, host: str, session: str
) -> None:
    rig = Rig(monkeypatch, EngineSettings(listen_host="0.0.0.0", advertise_host=host))
    slab = HostSlab(4096)
    (handle,) = rig.engine.register([slab], writable=True)
    assert handle == RegionHandle(
        backend=Backend.MOONCAKE,
        session=session,
        base=slab.address,
        size_bytes=4096,
        is_writable=True,
    )


def test_what_other_backends_and_devices_offer_is_refused(rig: Rig) -> None:
    other = RegionHandle(
        backend=Backend.SHM, session="host", base=0, size_bytes=1, name="x", is_writable=True
    )
    with pytest.raises(ValueError, match="not of mooncake"):
        rig.engine.connect(other, first_contact_timeout_s=LIMIT_S)

    class Elsewhere(HostSlab):
        device = "npu:0"

    with pytest.raises(TransferError, match="does not move memory of npu:0") as caught:
        rig.engine.register([HostSlab(4096), Elsewhere(4096)], writable=True)
    assert caught.value.fault is TransferFault.INCOMPATIBLE
    assert rig.natives[0].registered == {}


def test_a_forked_process_cannot_use_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    own_pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: own_pid + 1)
    with pytest.raises(ValueError, match="forked"):
        rig.connect()
