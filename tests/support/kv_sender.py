"""A process that sends KV when told to, and can be stopped and killed; its receiver is the test."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from hfx_transfer.engine.capability import open_engine
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.kv.layout import KvDtype, KvLayout
from hfx_transfer.kv.offer import KvOffer
from hfx_transfer.kv.outgoing import OutgoingKv
from hfx_transfer.kv.pages import PageAllocator
from hfx_transfer.kv.pool import KvPool
from hfx_transfer.kv.receiver import KvReceiver
from hfx_transfer.kv.sender import KvSender
from hfx_transfer.kv.settings import HandoffSettings
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.memory.shared import SharedSlab

from hfx_sgl.errors import TransferError

NUM_TOKENS = 1024
"""Of each hand-off: 32 MiB, some ten milliseconds at the best."""
LAYOUT = KvLayout(
    num_layers=8,
    page_tokens=16,
    num_kv_heads=8,
    head_dim=128,
    dtype=KvDtype.FLOAT16,
    num_pages=2 * NUM_TOKENS // 16,
)
PROGRESS_TIMEOUT_S = 2.0
HOLD_S = 1.0
WAIT_S = 30.0
"""What takes milliseconds may take longer on a busy machine."""

ENGINE_SETTINGS = EngineSettings(progress_timeout_s=PROGRESS_TIMEOUT_S)
HANDOFF_SETTINGS = HandoffSettings(late_write_hold_s=HOLD_S)


def make_pool(backend: Backend, layout: KvLayout = LAYOUT) -> KvPool:
    make_slab = SharedSlab if backend is Backend.SHM else HostSlab
    return KvPool(layout, make_slab, open_engine(backend, ENGINE_SETTINGS))


class Receiving:
    """A receiver in this process, and a look at its memory."""

    def __init__(self, backend: Backend, settings: HandoffSettings = HANDOFF_SETTINGS) -> None:
        self.pool = make_pool(backend)
        self.allocator = PageAllocator(LAYOUT.num_pages)
        self.receiver = KvReceiver(self.pool, self.allocator, settings=settings)

    @property
    def num_free(self) -> int:
        return self.allocator.num_free

    def first_byte(self, page: int, layer: int) -> int:
        """Return the first byte of the keys of one layer in a page."""
        place = self._place(page, layer)
        return self.pool.slabs[0].view()[place]

    def last_byte(self, page: int) -> int:
        """Return the last byte of what is sent last for a page."""
        page_bytes = LAYOUT.page_tokens * LAYOUT.token_bytes
        offset = self._place(page, LAYOUT.num_layers - 1) + LAYOUT.plane_bytes
        return self.pool.slabs[0].view()[offset + page_bytes - 1]

    def fill(self, value: int) -> None:
        view = self.pool.slabs[0].view()
        view[:] = bytes([value]) * len(view)

    def _place(self, page: int, layer: int) -> int:
        return 2 * layer * LAYOUT.plane_bytes + page * LAYOUT.page_tokens * LAYOUT.token_bytes

    def close(self, *, within_s: float = 0.1) -> None:
        self.receiver.close(within_s=within_s)
        self.pool.close()
        self.pool.engine.close()


class SendingProcess:
    """The process, seen from a test."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        self._process = process
        self._connection = connection
        assert process.pid is not None
        self.pid = process.pid

    def ask(self, *command: Any) -> Any:
        """Have it do something and return the answer."""
        self._connection.send(command)
        assert self._connection.poll(WAIT_S), "no answer"
        return self._connection.recv()

    def stop(self) -> None:
        """Let it run no further; returns when it has come to a halt."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.join(WAIT_S)


@contextlib.contextmanager
def sending_process(
    backend: Backend, *, layout: KvLayout = LAYOUT, token: str | None = None
) -> Iterator[SendingProcess]:
    """Start a process with a pool full of ones; end it on leaving."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, backend, layout, token), daemon=True)
    process.start()
    there.close()
    try:
        sending = SendingProcess(process, here)
        assert sending.ask("hello") == "hello"
        yield sending
    finally:
        here.close()
        process.kill()
        process.join(WAIT_S)


def _serve(connection: Connection, backend: Backend, layout: KvLayout, token: str | None) -> None:
    pool = make_pool(backend, layout)
    for slab in pool.slabs:
        slab.view()[:] = b"\x01" * slab.size_bytes
    settings = HandoffSettings(late_write_hold_s=HOLD_S, token=token)
    sender = KvSender(pool, settings=settings)
    handoffs: dict[str, OutgoingKv] = {}
    with contextlib.suppress(EOFError):
        while True:
            connection.send(_obey(sender, handoffs, connection.recv()))


def _obey(sender: KvSender, handoffs: dict[str, OutgoingKv], command: Any) -> Any:
    match command:
        case ["begin", KvOffer() as offer]:
            try:
                handoffs[offer.handoff_id] = sender.begin(offer)
            except TransferError as error:
                return error.fault, str(error)
            return None
        case ["push", handoff_id, first_layer, last_layer]:
            pages = range(NUM_TOKENS // LAYOUT.page_tokens)
            for layer in range(first_layer, last_layer):
                handoffs[handoff_id].push_layer(layer, pages, num_tokens=NUM_TOKENS)
        case ["finish", handoff_id]:
            handoffs[handoff_id].finish(NUM_TOKENS, metadata=b"last")
        case ["abort", handoff_id]:
            handoffs[handoff_id].abort("the prefill was cancelled")
        case ["accepted", handoff_id]:
            failure = handoffs[handoff_id].accepted.exception(WAIT_S)
            return None if failure is None else (getattr(failure, "fault", None), str(failure))
        case ["settled", handoff_id]:
            return handoffs[handoff_id].settled.exception(WAIT_S) is None
        case ["close"]:
            return sender.close()
        case ["hello"]:
            return "hello"
    return None
