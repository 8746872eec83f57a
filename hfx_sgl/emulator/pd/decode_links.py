"""The decode side of the rendezvous: one connection to each prefill worker that is in use."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus

import aiohttp

from hfx_sgl.emulator.pd.messages import (
    RENDEZVOUS_PATH,
    ROUTE_PATH,
    ROUTE_QUERY,
    Message,
    Topic,
    decode_message,
)

Address = tuple[str, int]


class DecodeLinks:
    """Tells prefill workers about rooms and hears about them.

    Args:
        arrived: called with a room whose KV is here, and the cache hits of its prompt in tokens.
        failed: called with a room whose prefill worker is gone, and how that showed.
        misfit: called with what is wrong when a prefill worker is met whose KV does not go with
            this worker's. Nothing more is said about its rooms: the real one's scheduler dies.
        page_tokens: of this worker.
        dead_peer_delay_s: how long it takes to notice that a prefill worker is gone.
    """

    def __init__(
        self,
        *,
        arrived: Callable[[int, int], None],
        failed: Callable[[int, str], None],
        misfit: Callable[[str], None],
        page_tokens: int,
        dead_peer_delay_s: float,
    ) -> None:
        self._arrived = arrived
        self._failed = failed
        self._misfit = misfit
        self._page_tokens = page_tokens
        self._dead_peer_delay_s = dead_peer_delay_s
        self._links: dict[Address, _Link] = {}
        self._session: aiohttp.ClientSession | None = None

    def grant(self, address: Address, room: int, offer: str | None = None) -> None:
        """There is space for this room's KV.

        Args:
            offer: where real bytes are to go; None when nothing but messages moves.
        """
        self._link(address).say(Message(Topic.GRANTED, room, offer=offer))

    def withdraw(self, address: Address, room: int) -> None:
        """Nobody waits for this room's KV any longer."""
        self._link(address).say(Message(Topic.WITHDRAWN, room))

    async def close(self) -> None:
        """End all connections."""
        for link in list(self._links.values()):
            link.task.cancel()
        await asyncio.gather(*(link.task for link in self._links.values()), return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _link(self, address: Address) -> "_Link":
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = _Link()
            link.task = asyncio.create_task(self._run(address, link))
        return link

    async def _run(self, address: Address, link: "_Link") -> None:
        problem = "Decode handshake"
        try:
            misfit = await self._compare(address)
            if misfit is not None:
                self._misfit(misfit)
                return
            async with self._http().ws_connect(_url(address, RENDEZVOUS_PATH)) as socket:
                problem = "Decode transfer"
                writer = asyncio.create_task(_write_all(link, socket))
                try:
                    await self._read_all(link, socket)
                finally:
                    writer.cancel()
        except (aiohttp.ClientError, OSError, ValueError):
            # Nobody is there any more, or somebody who says no JSON.
            pass
        # Whoever comes from here on gets a connection of its own.
        del self._links[address]
        if link.rooms:
            await asyncio.sleep(self._dead_peer_delay_s)
        for room in list(link.rooms):
            self._failed(room, problem)

    async def _compare(self, address: Address) -> str | None:
        """Return what about a prefill worker does not go with this one, as SGLang 0.5.23 finds
        out at the first contact; None also when it says nothing."""
        query = dict.fromkeys(ROUTE_QUERY, "-1")
        async with self._http().get(_url(address, ROUTE_PATH), params=query) as answer:
            if answer.status != HTTPStatus.OK:
                return None
            found = await answer.json()
        page_tokens = found.get("page_size") if isinstance(found, dict) else None
        if page_tokens in (None, self._page_tokens):
            return None
        host, port = address
        return f"page sizes: {page_tokens} at the prefill worker {host}:{port}, {self._page_tokens}"

    async def _read_all(self, link: "_Link", socket: aiohttp.ClientWebSocketResponse) -> None:
        async for item in socket:
            if item.type is not aiohttp.WSMsgType.TEXT:
                continue
            message = decode_message(item.data)
            link.rooms.discard(message.room)
            if message.topic is Topic.SENT:
                self._arrived(message.room, message.num_cached_tokens)
            elif message.topic is Topic.FAILED:
                self._failed(message.room, "Decode transfer")

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0)
            )
        return self._session


class _Link:
    """What is to be said to one prefill worker, and who waits for it."""

    def __init__(self) -> None:
        self.outbox: asyncio.Queue[Message] = asyncio.Queue()
        self.rooms: set[int] = set()
        self.task: asyncio.Task[None]

    def say(self, message: Message) -> None:
        if message.topic is Topic.GRANTED:
            self.rooms.add(message.room)
        else:
            self.rooms.discard(message.room)
        self.outbox.put_nowait(message)


async def _write_all(link: _Link, socket: aiohttp.ClientWebSocketResponse) -> None:
    with suppress(ConnectionError):
        while True:
            message = await link.outbox.get()
            await socket.send_str(message.encode())


def _url(address: Address, path: str) -> str:
    host, port = address
    bare = host.removeprefix("[").removesuffix("]")
    return f"http://[{bare}]:{port}{path}" if ":" in bare else f"http://{bare}:{port}{path}"
