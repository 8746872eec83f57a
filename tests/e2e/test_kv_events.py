"""What a real server publishes about its KV cache, followed from the router's side."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from hfx_router.estimates.kv_events import KvEvents
from hfx_router.workers.ask import control_session
from hfx_router.workers.probe import Prober, WorkerFacts
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import WorkerSpec
from support.ask import post
from support.fleet import Fleet

from hfx_sgl.clock import WallClock
from hfx_sgl.policy.breaker import BreakerConfig
from hfx_sgl.policy.estimates.kv_blocks import BlockIndex
from hfx_sgl.policy.health import HealthConfig
from hfx_sgl.types import Role

PROMPT = list(range(5, 105))
OTHER = [*PROMPT[:40], *range(200, 240)]
PAGE_TOKENS = 8
_EVENTS_OFFSET = 8
_PATIENCE_S = 20.0

only_real = pytest.mark.parametrize(
    "fleet", [pytest.param("real", marks=pytest.mark.e2e)], indirect=True, scope="session"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A server and what is known of its cache."""

    url: str
    worker_id: str
    index: BlockIndex

    async def cached(self, token_ids: list[int], is_right: Callable[[int], bool]) -> int:
        """Return how much of a prompt is cached, as soon as that is right or after a while."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                found = self.index.cached_tokens(self.worker_id, token_ids)
                if is_right(found):
                    return found
                await asyncio.sleep(0.05)

    async def generate(self, token_ids: list[int]) -> int:
        """Have the server answer, and return how much of the prompt it says was cached."""
        sampling = {"temperature": 0, "max_new_tokens": 4, "ignore_eos": True}
        answer = await post(
            self.url, "/generate", {"input_ids": token_ids, "sampling_params": sampling}
        )
        assert answer.status == 200
        cached: int = answer.body["meta_info"]["cached_tokens"]
        return cached


@pytest.fixture(scope="module")
def events_url(fleet: Fleet) -> str:
    """A unified server that publishes, and keeps what it has published."""
    slot = fleet.next_slot
    fleet.next_slot += 1
    plan = fleet.plan_one(Role.REGULAR, slot, slot)
    port = (urlsplit(plan.url).port or 0) + _EVENTS_OFFSET
    config = {
        "publisher": "zmq",
        "topic": "kv",
        "bind": True,
        "endpoint": f"tcp://127.0.0.1:{port}",
        "replay_endpoint": f"tcp://127.0.0.1:{port + 1}",
    }
    flags = ("--kv-events-config", json.dumps(config), "--page-size", str(PAGE_TOKENS))
    fleet.cluster.add(dataclasses.replace(plan, argv=(*plan.argv, *flags)))
    return plan.url


@asynccontextmanager
async def following(url: str) -> AsyncIterator[Followed]:
    """Follow a server as the router does: probed, registered, with events found by themselves."""
    index = BlockIndex()
    registry = Registry(WallClock(), BreakerConfig(), HealthConfig(), lambda worker: None)
    events = KvEvents(registry, index)
    events.start()
    worker = registry.new_worker("followed", WorkerSpec(url=url))
    async with control_session() as session:
        facts = await Prober(session).probe(worker.spec)
    assert isinstance(facts, WorkerFacts)
    worker.metadata = dict(facts.metadata)
    worker.is_probed = True
    registry.add(worker)
    try:
        yield Followed(url=url, worker_id=worker.worker_id, index=index)
    finally:
        await events.stop()


@only_real
async def test_a_prompt_is_known_after_its_request_and_not_after_a_flush(
    events_url: str,
) -> None:
    async with following(events_url) as followed:
        await followed.generate(PROMPT)
        known = await followed.cached(PROMPT, lambda tokens: tokens > 0)
        assert known == len(PROMPT) // PAGE_TOKENS * PAGE_TOKENS
        assert followed.index.is_trusted(followed.worker_id)
        assert followed.index.cached_tokens(followed.worker_id, OTHER) == 40
        # What the server itself says it had cached is the same.
        assert await followed.generate(OTHER) == 40
        assert await followed.generate(PROMPT) == known

        flushed = await post(followed.url, "/flush_cache", {})
        assert flushed.status == 200
        assert await followed.cached(PROMPT, lambda tokens: tokens == 0) == 0
        assert followed.index.num_blocks(followed.worker_id) == 0
        assert followed.index.is_trusted(followed.worker_id)


@only_real
async def test_what_was_cached_before_is_known_to_whoever_comes_later(events_url: str) -> None:
    prompt = [150 + number % 50 for number in range(64)]
    async with following(events_url) as followed:
        await followed.generate(prompt)
        await followed.cached(prompt, lambda tokens: tokens == len(prompt))
    async with following(events_url) as late:
        assert await late.cached(prompt, lambda tokens: tokens > 0) == len(prompt)
        assert late.index.is_trusted(late.worker_id)
