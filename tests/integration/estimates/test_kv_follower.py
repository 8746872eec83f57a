"""The follower against a publisher that does what SGLang's does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hfx_router.estimates.kv_events import KvEvents
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import Worker, WorkerSpec

from hfx_sgl.clock import FakeClock
from hfx_sgl.policy.breaker import BreakerConfig
from hfx_sgl.policy.estimates.kv_blocks import BlockIndex
from hfx_sgl.policy.health import HealthConfig
from hfx_sgl.types import Role

if TYPE_CHECKING:
    import zmq.asyncio

PORT = 26_810
REPLAY_PORT = 26_820
BLOCK_TOKENS = 4
PATIENCE_S = 15.0
END = (-1).to_bytes(8, "big", signed=True)
PROMPT = list(range(100, 132))


def stored(tokens: list[int], first_hash: int, parent: int | None = None) -> dict[str, Any]:
    hashes = list(range(first_hash, first_hash + len(tokens) // BLOCK_TOKENS))
    return {
        "type": "BlockStored", "block_hashes": hashes, "parent_block_hash": parent,
        "token_ids": tokens, "block_size": BLOCK_TOKENS, "lora_id": None, "medium": "GPU",
    }  # fmt: skip


class Publisher:
    """Numbers messages, keeps them, sends them again when asked."""

    def __init__(self, context: "zmq.asyncio.Context", *, replays: bool) -> None:
        import zmq

        self._pub = context.socket(zmq.XPUB)  # XPUB, to see who subscribes
        self._pub.bind(f"tcp://127.0.0.1:{PORT}")
        self._router: zmq.asyncio.Socket | None = None
        self._task: asyncio.Task[None] | None = None
        if replays:
            self._router = context.socket(zmq.ROUTER)
            self._router.bind(f"tcp://127.0.0.1:{REPLAY_PORT}")
            self._task = asyncio.get_running_loop().create_task(self._serve_replays(self._router))
        self._kept: list[bytes] = []
        self.num_forgotten = 0
        """Of the first messages, that are not kept any more."""
        self.stamp_s = 1.0

    async def subscribed(self) -> None:
        """Wait for a subscriber."""
        async with asyncio.timeout(PATIENCE_S):
            assert await self._pub.recv() == b"\1kv"

    async def unsubscribed(self) -> None:
        """Wait until the subscriber has left."""
        async with asyncio.timeout(PATIENCE_S):
            assert await self._pub.recv() == b"\0kv"

    async def publish(self, *events: dict[str, Any], is_lost: bool = False) -> None:
        self.stamp_s += 1.0
        payload = msgspec.msgpack.encode([self.stamp_s, list(events), 0])
        number = len(self._kept).to_bytes(8, "big")
        self._kept.append(payload)
        if not is_lost:
            await self._pub.send_multipart([b"kv", number, payload])

    async def repeat(self, number: int) -> None:
        await self._pub.send_multipart([b"kv", number.to_bytes(8, "big"), self._kept[number]])

    def restart(self) -> None:
        """Count from 0, as a new process would; its subscribers notice nothing else."""
        self._kept.clear()

    async def send(self, payload: bytes) -> None:
        """Publish any bytes."""
        await self._pub.send_multipart([b"kv", len(self._kept).to_bytes(8, "big"), payload])

    async def _serve_replays(self, router: "zmq.asyncio.Socket") -> None:
        while True:
            client, _, start = await router.recv_multipart()
            first = max(int.from_bytes(start, "big"), self.num_forgotten)
            for number, payload in enumerate(self._kept[first:], first):
                await router.send_multipart(
                    [client, b"", b"kv", number.to_bytes(8, "big"), payload]
                )
            await router.send_multipart([client, b"", b"", END, b""])

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for socket in (self._pub, self._router):
            if socket is not None:
                socket.close(linger=0)


class World:
    """A registry whose workers are followed, and what is known of them."""

    def __init__(self, context: "zmq.asyncio.Context") -> None:
        self.context = context
        self.index = BlockIndex()
        self.registry = Registry(FakeClock(), BreakerConfig(), HealthConfig(), lambda worker: None)
        self.events = KvEvents(self.registry, self.index)
        self.events.start()

    @asynccontextmanager
    async def publisher(self, *, replays: bool = False) -> AsyncIterator[Publisher]:
        publisher = Publisher(self.context, replays=replays)
        try:
            yield publisher
        finally:
            await publisher.close()

    def add(self, *, replays: bool = False, role: Role = Role.REGULAR) -> Worker:
        worker = self.registry.new_worker("w", WorkerSpec(url="http://127.0.0.1:1", role=role))
        described: dict[str, object] = {
            "publisher": "zmq", "endpoint_host": "*", "endpoint_port_base": PORT, "topic": "kv",
            "block_size": BLOCK_TOKENS, "dp_size": 1,
        }  # fmt: skip
        if replays:
            described["replay_endpoint_port_base"] = REPLAY_PORT
        worker.metadata["kv_events"] = described
        worker.is_probed = True
        self.registry.add(worker)
        return worker

    async def cached(self, num_tokens: int) -> None:
        """Wait until so much of the prompt is known."""
        await eventually(lambda: self.index.cached_tokens("w", PROMPT) == num_tokens)


async def eventually(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110 - the index has no events
            await asyncio.sleep(0.01)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    import zmq.asyncio

    with zmq.asyncio.Context() as context:
        world = World(context)
        yield world
        await world.events.stop()


async def test_follows_from_the_first_message_on(world: World) -> None:
    async with world.publisher() as publisher:
        world.add()
        await publisher.subscribed()
        await publisher.publish(stored(PROMPT[:16], 0), stored(PROMPT[16:], 4, parent=3))
        await world.cached(32)
        assert world.index.is_trusted("w")
        await publisher.publish({"type": "BlockRemoved", "block_hashes": [6], "medium": "GPU"})
        await world.cached(24)
        await publisher.publish({"type": "AllBlocksCleared"})
        await world.cached(0)
        assert world.index.is_trusted("w")


async def test_works_on_the_router_s_event_loop() -> None:
    import uvloop
    import zmq.asyncio

    async def scenario() -> None:
        with zmq.asyncio.Context() as context:
            world = World(context)
            async with world.publisher(replays=True) as publisher:
                world.add(replays=True)
                await publisher.subscribed()
                await publisher.publish(stored(PROMPT, 0))
                await world.cached(32)
                await world.events.stop()

    await asyncio.to_thread(uvloop.run, scenario())


async def test_a_worker_that_has_cached_before_is_not_trusted(world: World) -> None:
    async with world.publisher() as publisher:
        await publisher.publish(stored(PROMPT, 0))
        world.add()
        await publisher.subscribed()
        await publisher.publish(stored(PROMPT[:8], 20))
        await world.cached(8)
        assert not world.index.is_trusted("w")


async def test_what_was_cached_before_is_replayed(world: World) -> None:
    async with world.publisher(replays=True) as publisher:
        await publisher.publish(stored(PROMPT[:16], 0))
        await publisher.publish(stored(PROMPT[16:], 4, parent=3))
        world.add(replays=True)
        await world.cached(32)
        assert world.index.is_trusted("w")


async def test_a_worker_that_has_said_nothing_has_nothing(world: World) -> None:
    async with world.publisher(replays=True):
        world.add(replays=True)
        await eventually(lambda: world.index.is_trusted("w"))
        assert world.index.hit_tokens(PROMPT) == {"w": 0}


async def test_a_gap_is_filled_by_a_replay(world: World) -> None:
    async with world.publisher(replays=True) as publisher:
        world.add(replays=True)
        await publisher.subscribed()
        await publisher.publish(stored(PROMPT[:8], 0))
        await world.cached(8)
        await publisher.publish(stored(PROMPT[8:16], 2, parent=1), is_lost=True)
        await publisher.publish(stored(PROMPT[16:], 4, parent=3))
        await world.cached(32)
        assert world.index.is_trusted("w")


@pytest.mark.parametrize("replays", [False, True])
async def test_a_gap_that_cannot_be_filled_starts_the_index_anew(
    world: World, replays: bool
) -> None:
    async with world.publisher(replays=replays) as publisher:
        world.add(replays=replays)
        await publisher.subscribed()
        await publisher.publish(stored(PROMPT[:8], 0))
        await world.cached(8)
        await publisher.publish({"type": "AllBlocksCleared"}, is_lost=True)
        publisher.num_forgotten = 2
        await publisher.publish(stored(PROMPT[:4], 30))
        await world.cached(4)
        assert not world.index.is_trusted("w")
        await publisher.publish({"type": "AllBlocksCleared"})
        await eventually(lambda: world.index.is_trusted("w"))


async def test_repeated_messages_change_nothing(world: World) -> None:
    async with world.publisher() as publisher:
        world.add()
        await publisher.subscribed()
        await publisher.publish(stored(PROMPT[:8], 0))
        await publisher.publish({"type": "BlockRemoved", "block_hashes": [0, 1], "medium": "GPU"})
        await publisher.repeat(0)
        await publisher.publish(stored([7] * 4, 50))
        await eventually(lambda: world.index.num_blocks("w") == 1)
        assert world.index.cached_tokens("w", PROMPT) == 0
        assert world.index.is_trusted("w")


async def test_a_worker_that_counts_anew_has_lost_its_cache(world: World) -> None:
    async with world.publisher() as publisher:
        world.add()
        await publisher.subscribed()
        await publisher.publish(stored(PROMPT[:8], 0))
        await publisher.publish(stored(PROMPT[8:], 2, parent=1))
        await world.cached(32)
        publisher.restart()
        await publisher.publish(stored(PROMPT[:4], 0))
        await world.cached(4)
        assert world.index.is_trusted("w")


async def test_a_lost_connection_starts_the_index_anew(world: World) -> None:
    async with world.publisher() as publisher:
        world.add()
        await publisher.subscribed()
        await publisher.publish(stored(PROMPT, 0))
        await world.cached(32)
    await world.cached(0)
    assert not world.index.is_trusted("w")
    async with world.publisher() as publisher:
        await publisher.subscribed()
        await publisher.publish(stored(PROMPT[:8], 0))
        await world.cached(8)
        assert world.index.is_trusted("w")


async def test_a_worker_that_leaves_is_forgotten(world: World) -> None:
    async with world.publisher() as publisher:
        worker = world.add()
        await publisher.subscribed()
        await publisher.publish(stored(PROMPT, 0))
        await world.cached(32)
        world.registry.remove(worker.worker_id)
        await eventually(lambda: world.index.num_blocks("w") == 0)
        await publisher.unsubscribed()
        assert world.index.hit_tokens(PROMPT) == {}


async def test_decode_workers_are_not_followed(world: World) -> None:
    world.add(role=Role.DECODE)
    assert not world.index.is_trusted("w")
    with pytest.raises(KeyError):
        world.index.cleared("w")


async def test_what_cannot_be_read_ends_it(world: World) -> None:
    async with world.publisher() as publisher:
        world.add()
        await publisher.subscribed()
        await publisher.publish(stored(PROMPT, 0))
        await world.cached(32)
        await publisher.send(b"\xc1")
        await world.cached(0)
        assert world.index.hit_tokens(PROMPT) == {}


async def test_without_the_library_nothing_is_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "zmq.asyncio", None)
    index = BlockIndex()
    registry = Registry(FakeClock(), BreakerConfig(), HealthConfig(), lambda worker: None)
    events = KvEvents(registry, index)
    events.start()
    worker = registry.new_worker("w", WorkerSpec(url="http://127.0.0.1:1"))
    worker.metadata["kv_events"] = {
        "publisher": "zmq", "endpoint_host": "*", "endpoint_port_base": PORT, "block_size": 4,
    }  # fmt: skip
    worker.is_probed = True
    registry.add(worker)
    assert not index.has_trusted
    await events.stop()
