"""A real Router in this process, on a loopback port of its own, for tests over real sockets.

At the end it asserts that nothing of any request is left: no exchange, slot, connection or task,
and that no exception got as far as the event loop.
"""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from hfx_router.app import Router
from hfx_router.settings.load import load_settings
from hfx_router.workers.worker import Worker
from support.mock_worker import RecordingWorker
from support.raw_client import RawClient, RawResponse, fetch

FIRST_PORT, LAST_PORT = 20_000, 23_900
"""Below the ephemeral range and below the ports of the mock workers."""

DEFAULT_FLAGS = (
    "--host", "127.0.0.1", "--disable-prometheus", "--policy", "round_robin",
    "--retry-initial-backoff-ms", "1", "--retry-max-backoff-ms", "2",
)  # fmt: skip

JSON = (b"content-type", b"application/json")
GENERATE = b'{"text":"hi"}'


async def eventually(is_met: Callable[[], bool], *, within_s: float = 3.0) -> bool:
    """Wait until `is_met`, which nothing announces; return whether it was in time."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + within_s
    while not is_met():
        if loop.time() > deadline_s:
            return False
        await asyncio.sleep(0.001)
    return True


@dataclass(kw_only=True)
class RunningRouter:
    """A router that listens, and the shortest way to ask it something."""

    router: Router
    url: str
    loop_errors: list[dict[str, Any]] = field(default_factory=list)
    """What reached the exception handler of the event loop."""

    async def post(
        self,
        path: str = "/generate",
        body: bytes = GENERATE,
        *,
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> RawResponse:
        """Post on a connection of its own and return the whole answer."""
        return await fetch(self.url, "POST", path, headers=[JSON, *(headers or [])], body=body)

    def client(self) -> RawClient:
        """Return a client to be opened with `async with`."""
        return RawClient.to(self.url, timeout_s=5.0)

    def worker(self, mock: RecordingWorker) -> Worker:
        """Return the router's record of a mock worker."""
        return next(w for w in self.router.registry.workers if w.port == mock.port)

    def open_breakers(self) -> list[str]:
        """Name the roles of the workers whose breaker does not let requests through."""
        return [w.role.value for w in self.router.registry.workers if not w.breaker.allows]

    def leftovers(self) -> dict[str, object]:
        """Return everything that requests under way hold; empty when there are none."""
        router, service = self.router, self.router.service
        pools = service._pools.values()
        held: dict[str, object] = {
            "client connections": len(router._front.connections),
            "client connections counted": router.recorder.num_connections,
            "exchanges": len(service.exchanges),
            "requests counted": router.recorder.num_inflight,
            "requests queued": router.recorder.num_queued,
            "legs": sum(w.num_inflight for w in router.registry.workers),
            "connects": sum(len(pool._connecting) for pool in pools),
            "abort calls": len(service.aborter._tasks),
        }
        if service.gate is not None:
            held["slots"] = service.gate._admission.num_active
            held["places in the queue"] = service.gate.num_waiting
        if service.desk is not None:
            held["requests in the journal"] = service.desk.journal.num_under_way
        return {name: value for name, value in held.items() if value}

    async def until_legs_are_over(self) -> None:
        """Wait until no worker has anything to do for us."""
        workers = self.router.registry.workers
        assert await eventually(lambda: not any(w.num_inflight for w in workers))

    async def settled(self) -> dict[str, object]:
        """Wait until nothing is under way; return what is held all the same."""
        await eventually(lambda: not self.leftovers())
        return self.leftovers()


@asynccontextmanager
async def running_router(*flags: str, **overrides: Any) -> AsyncIterator[RunningRouter]:
    """Start a router with these flags, wait for its workers, stop it and look for leftovers.

    `overrides` replace settings after validation: timeouts shorter than any flag allows.
    """
    port = free_port()
    given = load_settings([*DEFAULT_FLAGS, "--port", str(port), *flags], {})
    settings = given.model_copy(update=overrides)
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        running = RunningRouter(router=Router(settings, session), url=f"http://127.0.0.1:{port}")
        loop.set_exception_handler(lambda _, context: running.loop_errors.append(context))
        await running.router.start()
        try:
            for worker_id, _ in list(running.router.registrar.jobs.items()):
                await running.router.registrar.settled(worker_id)
            yield running
            assert await running.settled() == {}
        finally:
            running.router.hurry()
            await running.router.stop()
            loop.set_exception_handler(None)
        await _assert_gone(running)


@asynccontextmanager
async def one_worker(
    *flags: str, **overrides: Any
) -> AsyncIterator[tuple[RunningRouter, RecordingWorker]]:
    """Start a router in front of one mock worker."""
    async with (
        RecordingWorker() as worker,
        running_router("--worker-urls", worker.url, *flags, **overrides) as router,
    ):
        yield router, worker


@asynccontextmanager
async def one_pair(
    *flags: str, **overrides: Any
) -> AsyncIterator[tuple[RunningRouter, RecordingWorker, RecordingWorker]]:
    """Start a router in front of one mock prefill and one mock decode worker."""
    async with (
        RecordingWorker(role="prefill") as prefill,
        RecordingWorker(role="decode") as decode,
        running_router(*pd_flags([prefill], [decode]), *flags, **overrides) as router,
    ):
        yield router, prefill, decode


@asynccontextmanager
async def in_mode(
    mode: str, *flags: str, **overrides: Any
) -> AsyncIterator[tuple[RunningRouter, list[RecordingWorker]]]:
    """Start a `regular` worker or a `pair`; the last of the workers is the one that answers."""
    if mode == "regular":
        async with one_worker(*flags, **overrides) as (router, worker):
            yield router, [worker]
    else:
        async with one_pair(*flags, **overrides) as (router, prefill, decode):
            yield router, [prefill, decode]


def pd_flags(prefills: list[RecordingWorker], decodes: list[RecordingWorker]) -> list[str]:
    """Return the flags of PD mode; the bootstrap ports are asked from the workers."""
    flags = ["--pd-disaggregation"]
    for prefill in prefills:
        flags += ["--prefill", prefill.url]
    for decode in decodes:
        flags += ["--decode", decode.url]
    return flags


async def _assert_gone(running: RunningRouter) -> None:
    """Assert that a stopped router left neither connections nor tasks behind."""
    pools = running.router.service._pools.values()
    await eventually(lambda: not any(pool.num_open for pool in pools) and not _own_tasks())
    assert [pool.num_open for pool in pools if pool.num_open] == []
    assert _own_tasks() == []
    assert running.loop_errors == []
    assert running.leftovers() == {}


def _own_tasks() -> list[str]:
    """Name the tasks that run code of the router."""
    names = []
    for task in asyncio.all_tasks():
        code = getattr(task.get_coro(), "cr_code", None)
        if code is not None and "hfx_router" in code.co_filename and not task.done():
            names.append(f"{code.co_qualname} in {task.get_name()}")
    return names


def free_port() -> int:
    """Return a port that nobody listens on."""
    for port in random.Random().sample(range(FIRST_PORT, LAST_PORT), 50):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError("no free port")
