"""Follows what one worker tells of its KV cache, from its beginning where the worker keeps it."""

import asyncio
from typing import Any

import structlog
import zmq
import zmq.asyncio
from zmq.utils.monitor import recv_monitor_message

from hfx_router.estimates.kv_messages import (
    BlockRemoved,
    BlockStored,
    KvMessage,
    KvSource,
    read_message,
    removed_blocks,
    replay_request,
    stored_slices,
)
from hfx_sgl.policy.estimates.kv_blocks import BlockIndex
from hfx_sgl.policy.estimates.kv_order import Hearing, MessageOrder

_log = structlog.get_logger(__name__)

_REPLAY_TIMEOUT_S = 5.0
"""SGLang looks for questions ten times a second, between messages."""
_HEARTBEAT_MS = 5_000
_MAX_MESSAGE_BYTES = 64 * 2**20
_MAX_QUEUED = 100_000
"""Messages, as many as SGLang queues at its end."""


class KvFollower:
    """Keeps one worker's part of the index, over reconnections and restarts."""

    def __init__(
        self, worker_id: str, source: KvSource, index: BlockIndex, context: zmq.asyncio.Context
    ) -> None:
        self._worker_id = worker_id
        self._source = source
        self._index = index
        self._context = context
        self._order = MessageOrder()

    async def run(self) -> None:
        """Follow until cancelled, or until the worker says something that cannot be read."""
        try:
            while True:
                self._index.add_worker(self._worker_id, self._source.block_tokens)
                self._order = MessageOrder()
                await self._follow_connection()
        except (ValueError, zmq.ZMQError) as exc:
            _log.warning("kv_events_unreadable", endpoint=self._source.endpoint, reason=str(exc))
        finally:
            self._index.remove_worker(self._worker_id)

    async def _follow_connection(self) -> None:
        """Connect, catch up and follow; returns when the connection is lost.

        Whatever is said meanwhile is missed, so that nothing of what is known is worth keeping.
        """
        with self._context.socket(zmq.SUB) as socket:
            _bound(socket)
            monitor = socket.get_monitor_socket()
            socket.subscribe(self._source.topic)
            socket.connect(self._source.endpoint)
            try:
                await self._serve(socket, monitor)
            finally:
                socket.disable_monitor()

    async def _serve(self, socket: zmq.asyncio.Socket, monitor: zmq.asyncio.Socket) -> None:
        poller = zmq.asyncio.Poller()
        poller.register(monitor, zmq.POLLIN)
        poller.register(socket, zmq.POLLIN)
        while True:
            ready = dict(await poller.poll())
            if monitor in ready:
                event = (await recv_monitor_message(monitor))["event"]
                if event == zmq.EVENT_DISCONNECTED:
                    return
                if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    await self._catch_up()
            elif socket in ready:
                message = read_message(await socket.recv_multipart())
                if message is not None:
                    await self._hear(message)

    async def _hear(self, message: KvMessage) -> None:
        hearing = self._order.hear(message.number, message.stamp_s)
        if hearing is Hearing.RESTARTED:
            self._order = MessageOrder()
            self._index.restart(self._worker_id, is_complete=False)
            hearing = self._order.hear(message.number, message.stamp_s)
        if hearing is Hearing.GAP:
            await self._catch_up()
            hearing = self._order.hear(message.number, message.stamp_s)
        if hearing is Hearing.GAP:
            self._index.restart(self._worker_id, is_complete=False)
            self._order.skip_to(message.number)
            hearing = self._order.hear(message.number, message.stamp_s)
        if hearing is Hearing.NEXT:
            await self._apply(message)

    async def _catch_up(self) -> None:
        """Ask for what was said before, and take it as far as it is the continuation."""
        if self._source.replay_endpoint is None:
            return
        try:
            is_silent = not await self._take_replay(self._source.replay_endpoint)
        except TimeoutError:
            _log.warning("kv_events_not_replayed", endpoint=self._source.replay_endpoint)
            return
        if is_silent and self._order.next_number == 0:  # nothing was ever cached
            self._index.restart(self._worker_id, is_complete=True)

    async def _take_replay(self, endpoint: str) -> bool:
        """Return whether there was anything to replay."""
        any_heard = False
        with self._context.socket(zmq.DEALER) as socket:
            _bound(socket)
            socket.connect(endpoint)
            await socket.send_multipart(replay_request(self._order.next_number))
            while True:
                async with asyncio.timeout(_REPLAY_TIMEOUT_S):
                    parts = await socket.recv_multipart()
                message = read_message(parts)
                if message is None:
                    return any_heard
                any_heard = True
                if self._order.hear(message.number, message.stamp_s) is Hearing.NEXT:
                    await self._apply(message)

    async def _apply(self, message: KvMessage) -> None:
        """Change the index, a slice for each turn of the event loop."""
        index, worker_id = self._index, self._worker_id
        if message.number == 0:
            index.restart(worker_id, is_complete=True)
        for event in message.events:
            if isinstance(event, BlockStored):
                for blocks in stored_slices(event, self._source.block_tokens):
                    index.stored(worker_id, blocks)
                    await asyncio.sleep(0)
            elif isinstance(event, BlockRemoved):
                index.removed(worker_id, removed_blocks(event))
            else:
                index.cleared(worker_id)


def _bound(socket: zmq.asyncio.Socket) -> None:
    """Set the limits of a socket."""
    options: dict[int, Any] = {
        zmq.LINGER: 0,
        zmq.RCVHWM: _MAX_QUEUED,
        zmq.MAXMSGSIZE: _MAX_MESSAGE_BYTES,
        zmq.HEARTBEAT_IVL: _HEARTBEAT_MS,
        zmq.IPV6: 1,
    }
    for option, value in options.items():
        socket.setsockopt(option, value)
