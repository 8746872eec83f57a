"""The receiver's connections: one with each sender, from its first word to its last."""

import asyncio
import hmac
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.kv.book import Entry
from hfx_transfer.kv.keepalive import keep_alive
from hfx_transfer.kv.layout import KvLayout, check_compatible
from hfx_transfer.kv.life import Life, look
from hfx_transfer.kv.messages import (
    VERSION,
    Attach,
    Commit,
    FromReceiver,
    FromSender,
    GiveUp,
    Hello,
    Noted,
    Refused,
    Settled,
    Welcome,
    frame,
    read_from_sender,
)
from hfx_transfer.kv.reception import Reception, verdict_of
from hfx_transfer.kv.settings import HandoffSettings

PROBE_TIMEOUT_S = 1.0
"""A process on the same network refuses in far less; none that is silent is taken for dead."""


@dataclass(slots=True, eq=False)
class _Link:
    sender_id: str
    writer: asyncio.StreamWriter

    def tell(self, message: FromReceiver) -> None:
        if not self.writer.is_closing():
            self.writer.write(frame(message))


class ReceiverLinks:
    """Listens, greets senders and passes on what they say. All within one event loop.

    Args:
        layout: the receiver's; senders whose KV does not match are refused.
    """

    def __init__(self, layout: KvLayout, settings: HandoffSettings, clock: Clock) -> None:
        self._layout = layout
        self._settings = settings
        self._clock = clock
        self._receiver_id = secrets.token_hex(8)
        self._links: dict[str, _Link] = {}
        self._life_ports: dict[str, tuple[str, int]] = {}
        """Where senders can be looked for; only those that were found there."""
        self._judging: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        """Once it listens."""

    async def listen(
        self, reception: Reception, start: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        """Begin to take connections.

        Args:
            reception: is told what senders say.
            start: runs a task for each connection.

        Raises:
            OSError: the host is not one of this machine.
        """

        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            start(self._serve(reception, reader, writer))

        self._server = await asyncio.start_server(serve, self._settings.listen_host, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def tell(self, sender_id: str, message: FromReceiver) -> None:
        """Tell a sender something; nothing happens when it is not connected."""
        link = self._links.get(sender_id)
        if link is not None:
            link.tell(message)

    async def is_gone(self, sender_id: str) -> bool:
        """Whether a sender's process is gone for certain."""
        address = self._life_ports.get(sender_id)
        if address is None or sender_id in self._links:
            return False
        return await look(*address, timeout_s=PROBE_TIMEOUT_S) is Life.GONE

    def forget(self, sender_id: str) -> None:
        """A sender is gone and holds nothing any more."""
        self._life_ports.pop(sender_id, None)

    def close(self) -> None:
        """Stop listening and close all connections."""
        if self._server is not None:
            self._server.close()
        for link in self._links.values():
            link.writer.close()

    async def _serve(
        self, reception: Reception, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        keep_alive(writer)
        try:
            hello = await self._greet(reader, writer)
            if hello is not None:
                await self._converse(reception, hello.sender_id, reader, writer)
        except TransferError as exc:
            writer.write(frame(Refused(fault=exc.fault, reason=str(exc))))
        except (OSError, EOFError):
            # The other side is gone; what that means is said in _converse.
            pass
        finally:
            writer.close()

    async def _greet(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Hello | None:
        async with asyncio.timeout(self._settings.greeting_timeout_s):
            hello = await read_from_sender(reader)
        if not isinstance(hello, Hello) or hello.version != VERSION:
            message = f"this receiver speaks version {VERSION} and expects to be greeted"
            raise TransferError(message, fault=TransferFault.PROTOCOL)
        if not _is_same(self._settings.token, hello.token):
            raise TransferError("the token is not accepted", fault=TransferFault.UNAUTHORIZED)
        check_compatible(self._layout, hello.layout)
        life = (hello.life_host, hello.life_port)
        # Behind a translation of addresses the port would be another machine's.
        is_direct = hello.life_host == writer.get_extra_info("peername")[0]
        if is_direct and await look(*life, timeout_s=PROBE_TIMEOUT_S) is Life.ALIVE:
            self._life_ports[hello.sender_id] = life
        return hello

    async def _converse(
        self,
        reception: Reception,
        sender_id: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        before = self._links.pop(sender_id, None)
        if before is not None:
            # It noticed first that the connection broke.
            before.writer.close()
            reception.sender_lost(sender_id)
        link = self._links[sender_id] = _Link(sender_id, writer)
        link.tell(Welcome(receiver_id=self._receiver_id))
        try:
            while True:
                self._take(reception, link, await read_from_sender(reader))
        finally:
            if self._links.get(sender_id) is link:
                del self._links[sender_id]
                reception.sender_lost(sender_id)

    def _take(self, reception: Reception, link: _Link, message: FromSender) -> None:
        match message:
            case Attach():
                now_s = self._clock.now_s()
                link.tell(reception.attach(link.sender_id, message.handoff_id, now_s))
            case GiveUp():
                error = TransferError(message.reason, fault=message.fault)
                reception.gave_up(link.sender_id, message.handoff_id, error)
            case Settled():
                reception.settled(link.sender_id, message.handoff_id, is_clean=message.is_clean)
                link.tell(Noted(handoff_id=message.handoff_id))
            case Commit():
                self._judge(reception, link, message)
            case Hello():
                raise TransferError("a second greeting", fault=TransferFault.PROTOCOL)

    def _judge(self, reception: Reception, link: _Link, commit: Commit) -> None:
        entry = reception.committed(link.sender_id, commit)
        if entry is None:
            error = TransferError("it was given up", fault=TransferFault.ABORTED)
            link.tell(verdict_of(commit.handoff_id, error))
            return
        task = asyncio.create_task(_verify(reception, link, entry, commit))
        self._judging.add(task)
        task.add_done_callback(self._judging.discard)


async def _verify(reception: Reception, link: _Link, entry: Entry, commit: Commit) -> None:
    error = await asyncio.to_thread(reception.verify, entry, commit)
    link.tell(reception.judged(entry, commit, error))


def _is_same(ours: str | None, theirs: str | None) -> bool:
    if ours is None:
        return True
    return theirs is not None and hmac.compare_digest(ours.encode(), theirs.encode())
