"""The control plane as an ASGI app, in front of fake workers that serve real HTTP on loopback.

FakeWorker is a fake: it answers from a table of paths and records what it was asked.
"""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from aiohttp import web
from fastapi import FastAPI
from hfx_router.auth import ApiKeys
from hfx_router.control.app import build_app
from hfx_router.control.context import AskTimeouts, ControlContext
from hfx_router.workers.ask import control_session
from hfx_router.workers.probe import Prober
from hfx_router.workers.registration import Registrar
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import WorkerSpec

from hfx_sgl.clock import FakeClock
from hfx_sgl.policy.breaker import BreakerConfig
from hfx_sgl.policy.health import HealthConfig
from hfx_sgl.types import Role

METRICS = """# HELP sglang:num_running_reqs running
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="tiny"} 1.0
# TYPE sglang:e2e_seconds histogram
sglang:e2e_seconds_bucket{le="1.0"} 1.0
sglang:e2e_seconds_bucket{le="+Inf"} 2.0
sglang:e2e_seconds_sum 3.0
sglang:e2e_seconds_count 2.0
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total 7.0
"""


@dataclass
class FakeWorker:
    """One fake server. `answers[path]` is (status, JSON value or text); other paths are 404."""

    url: str
    answers: dict[str, tuple[int, Any]]
    delay_s: dict[str, float] = field(default_factory=dict)
    asked: list[web.Request] = field(default_factory=list)

    def requests(self, path: str) -> list[web.Request]:
        return [request for request in self.asked if request.path == path]


def default_answers(mode: str) -> dict[str, tuple[int, Any]]:
    info = {
        "model_path": "/models/tiny",
        "served_model_name": "tiny",
        "tp_size": 1,
        "dp_size": 1,
        "disaggregation_mode": mode,
        "disaggregation_bootstrap_port": 21900,
        "version": "0.5.23",
        "internal_states": [{"mode": mode}],
    }
    load = {"dp_rank": 0, "num_running_reqs": 1, "num_total_tokens": 12}
    return {
        "/health": (200, ""),
        "/health_generate": (200, ""),
        "/server_info": (200, info),
        "/model_info": (200, {"model_path": "/models/tiny", "architectures": ["Llama"]}),
        "/v1/models": (200, {"object": "list", "data": [{"id": "tiny", "max_model_len": 9}]}),
        "/v1/loads": (
            200,
            {"version": "0.5.23", "accelerator": "cpu", "num_accelerators": 1, "loads": [load]},
        ),
        "/flush_cache": (200, "Cache flushed."),
        "/metrics": (200, METRICS),
    }


def free_socket() -> socket.socket:
    """Bind a port below the ephemeral range, where no outgoing connection can be in the way.

    As a server would: without SO_REUSEADDR, what it closes first would keep the port from everybody
    for another minute.
    """
    for port in random.Random().sample(range(20_000, 32_000), 50):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            sock.close()
            continue
        return sock
    raise RuntimeError("no free port")


StartWorker = Callable[..., Awaitable[FakeWorker]]


@pytest.fixture
async def start_worker() -> AsyncIterator[StartWorker]:
    """Start fake workers; `answers` override the usual ones, None drops a path."""
    runners: list[web.AppRunner] = []

    async def start(mode: str = "null", **answers: Any) -> FakeWorker:
        worker = FakeWorker(url="", answers=default_answers(mode))

        async def handle(request: web.Request) -> web.Response:
            worker.asked.append(request)
            await asyncio.sleep(worker.delay_s.get(request.path, 0))
            status, value = worker.answers.get(request.path, (404, {"detail": "Not Found"}))
            if isinstance(value, str):
                return web.Response(status=status, text=value)
            return web.json_response(value, status=status)

        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        await web.SockSite(runner, free_socket()).start()
        host, port = runner.addresses[0][:2]
        worker.url = f"http://{host}:{port}"
        for name, value in answers.items():
            worker.answers["/" + name] = value
        return worker

    yield start
    for runner in runners:
        await runner.cleanup()


@dataclass
class Router:
    """The control plane under test and a client for it."""

    app: FastAPI
    context: ControlContext
    registry: Registry
    registrar: Registrar
    client: httpx2.AsyncClient
    state: dict[str, bool]
    """`is_draining`, for a test to set."""

    async def add(self, worker: FakeWorker, role: Role = Role.REGULAR, **spec: Any) -> str:
        """Register a fake worker and wait until that is done."""
        worker_id = self.registrar.submit(WorkerSpec(url=worker.url, role=role, **spec))
        job = await self.registrar.settled(worker_id)
        assert job is not None
        assert job.state == "completed", job.message
        worker.asked.clear()
        return worker_id


NewRouter = Callable[..., Awaitable[Router]]


@pytest.fixture
async def new_router() -> AsyncIterator[NewRouter]:
    """Build routers; settings go to ControlContext."""
    closers: list[Callable[[], Awaitable[None]]] = []

    async def build(*, startup_timeout_s: float = 0.2, **settings: Any) -> Router:
        state = {"is_draining": False}
        defaults: dict[str, Any] = {"api_keys": ApiKeys(None), "is_pd": False}
        registry = Registry(FakeClock(), BreakerConfig(), HealthConfig(), lambda worker: None)
        session = control_session()
        prober = Prober(session, startup_timeout_s=2.0, info_timeout_s=2.0)
        registrar = Registrar(
            registry,
            prober.probe,
            lambda: 1_700_000_000.0,
            startup_timeout_s=startup_timeout_s,
            check_interval_s=0.02,
            drain_timeout_s=0.3,
        )
        context = ControlContext(
            registry=registry,
            registrar=registrar,
            session=session,
            unix_time_s=lambda: 1_700_000_000.0,
            now_s=lambda: 0.0,
            is_draining=lambda: state["is_draining"],
            timeouts=AskTimeouts(
                info_s=0.5, loads_s=0.5, metrics_s=0.5, health_generate_s=0.5, flush_s=0.5
            ),
            **defaults | settings,
        )
        app = build_app(context)
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        client = httpx2.AsyncClient(transport=transport, base_url="http://router")
        closers.extend([client.aclose, registrar.stop, session.close])
        return Router(app, context, registry, registrar, client, state)

    yield build
    for close in closers:
        await close()
