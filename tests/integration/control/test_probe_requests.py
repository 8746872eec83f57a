"""What registration asks of a worker over HTTP, and what it makes of odd answers."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hfx_router.workers.ask import ask, control_session
from hfx_router.workers.probe import NotReady, Prober, Refused, WorkerFacts
from hfx_router.workers.worker import WorkerSpec

from hfx_sgl.types import Role

StartWorker = Callable[..., Awaitable[Any]]


async def probe(url: str, role: Role = Role.REGULAR, api_key: str | None = None) -> Any:
    async with control_session() as session:
        prober = Prober(session, startup_timeout_s=0.3, info_timeout_s=0.3)
        return await prober.probe(WorkerSpec(url=url, role=role, api_key=api_key))


async def test_asks_health_then_server_then_model(start_worker: StartWorker) -> None:
    worker = await start_worker()
    facts = await probe(worker.url)
    assert isinstance(facts, WorkerFacts)
    assert facts.model_id == "tiny"
    assert [request.path for request in worker.asked] == ["/health", "/server_info", "/model_info"]
    assert all("authorization" not in request.headers for request in worker.asked)


async def test_api_key_goes_as_bearer(start_worker: StartWorker) -> None:
    worker = await start_worker()
    await probe(worker.url, api_key="k1")
    assert {request.headers["authorization"] for request in worker.asked} == {"Bearer k1"}


@pytest.mark.parametrize("body", [None, (200, "fine"), (200, [1]), (405, "")])
async def test_worker_that_offers_only_health_is_accepted(
    start_worker: StartWorker, body: tuple[int, Any] | None
) -> None:
    worker = await start_worker()
    for path in ("/server_info", "/model_info"):
        del worker.answers[path]
        if body is not None:
            worker.answers[path] = body
    facts = await probe(worker.url, Role.PREFILL)
    assert isinstance(facts, WorkerFacts)
    assert facts.metadata == {}


async def test_old_names_are_asked_when_the_new_ones_are_unknown(
    start_worker: StartWorker,
) -> None:
    worker = await start_worker()
    worker.answers["/get_server_info"] = worker.answers.pop("/server_info")
    facts = await probe(worker.url)
    assert isinstance(facts, WorkerFacts)
    assert facts.model_id == "tiny"


@pytest.mark.parametrize(
    ("path", "answer", "reason"),
    [
        ("/health", (503, "starting"), "GET /health: answered 503"),
        ("/server_info", (500, "x"), "GET /server_info: answered 500"),
    ],
)
async def test_worker_that_fails_is_not_ready(
    start_worker: StartWorker, path: str, answer: tuple[int, Any], reason: str
) -> None:
    worker = await start_worker()
    worker.answers[path] = answer
    assert await probe(worker.url) == NotReady(reason=reason)


@pytest.mark.parametrize("path", ["/health", "/server_info", "/model_info"])
async def test_slow_answer_is_not_ready(start_worker: StartWorker, path: str) -> None:
    worker = await start_worker()
    worker.delay_s[path] = 0.6
    assert await probe(worker.url) == NotReady(reason=f"GET {path}: no answer within 0.3 s")


async def test_nobody_listens() -> None:
    outcome = await probe("http://127.0.0.1:1")
    assert isinstance(outcome, NotReady)
    assert "ClientConnectorError" in outcome.reason


async def test_wrong_key_is_final(start_worker: StartWorker) -> None:
    worker = await start_worker(server_info=(401, "no"))
    outcome = await probe(worker.url)
    assert isinstance(outcome, Refused)
    assert "api_key" in outcome.reason


async def test_wrong_role_is_final(start_worker: StartWorker) -> None:
    worker = await start_worker("decode")
    outcome = await probe(worker.url, Role.PREFILL)
    assert isinstance(outcome, Refused)
    assert "given as a prefill worker" in outcome.reason
    assert "--disaggregation-mode decode" in outcome.reason


@pytest.mark.parametrize(("status", "is_alive"), [(200, True), (503, False), (302, False)])
async def test_health_check(start_worker: StartWorker, status: int, is_alive: bool) -> None:
    worker = await start_worker(ready=(status, ""))
    async with control_session() as session:
        prober = Prober(session, health_endpoint="/ready")
        assert await prober.is_alive(WorkerSpec(url=worker.url), 0.3) is is_alive


async def test_health_check_times_out(start_worker: StartWorker) -> None:
    worker = await start_worker()
    worker.delay_s["/health"] = 0.6
    async with control_session() as session:
        assert not await Prober(session).is_alive(WorkerSpec(url=worker.url), 0.1)


async def test_answer_is_bounded(start_worker: StartWorker) -> None:
    worker = await start_worker(health=(200, "x" * 2000))
    async with control_session() as session:
        answer = await ask(session, "GET", worker.url + "/health", timeout_s=1, max_bytes=1000)
        assert answer.failure == "the answer exceeds 1000 bytes"
        assert answer.body == b""
