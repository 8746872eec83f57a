"""GET /debug/decisions: which of the kept decisions are told, and what cannot be asked."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hfx_router.auth import ApiKeys, ControlPlaneKey, KeyRole
from hfx_router.scheduling.journal import Journal
from support.journals import make_journal, tell

from hfx_sgl.policy.scheduler.decision import Reason

NewRouter = Callable[..., Awaitable[Any]]
PATH = "/debug/decisions"


@pytest.fixture
def journal() -> Journal:
    """Four decisions at 100 s, which is when it is read."""
    journal = make_journal()
    tell(journal, "1", Reason.ON_TIME)
    tell(journal, "2", Reason.LATE, class_name="batch")
    tell(journal, "3", Reason.LATE)
    tell(journal, "4", Reason.INFEASIBLE, class_name="/generate", worker_id=None)
    journal.ended("1", 200, (0.3, 0.02), True)
    return journal


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", ["req-4", "req-3", "req-2", "req-1"]),
        ("?limit=2", ["req-4", "req-3"]),
        ("?limit=1000", ["req-4", "req-3", "req-2", "req-1"]),
        ("?reason=late", ["req-3", "req-2"]),
        ("?reason=late&limit=1", ["req-3"]),
        ("?class=chat", ["req-3", "req-1"]),
        ("?class=none", ["req-4"]),
        ("?class=chat&reason=late", ["req-3"]),
        ("?request_id=req-1", ["req-1"]),
        ("?request_id=req-9", []),
    ],
)
async def test_tells_what_is_asked_for_newest_first(
    new_router: NewRouter, journal: Journal, query: str, shown: list[str]
) -> None:
    router = await new_router(journal=journal)
    answer = await router.client.get(PATH + query)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert [one["request_id"] for one in answer.json()["decisions"]] == shown
    assert answer.json()["max_kept"] == 10


async def test_tells_the_time_of_day_the_outcome_and_the_url_of_the_worker(
    new_router: NewRouter, start_worker: Callable[..., Awaitable[Any]]
) -> None:
    journal = make_journal(now_s=102.5)
    router = await new_router(journal=journal)
    worker = await start_worker()
    worker_id = await router.add(worker)
    tell(journal, worker_id=worker_id, at_s=100.0, candidates=())
    journal.ended("1", 200, (0.3, 0.02), True)
    [shown] = (await router.client.get(PATH)).json()["decisions"]
    assert shown["worker"] == worker.url
    assert shown["at"] == "2023-11-14T22:13:17.500+00:00"  # 2.5 s before 1,700,000,000
    assert shown["actual"] == {
        "status": 200,
        "ttft_ms": 300.0,
        "tpot_ms": 20.0,
        "promise_kept": True,
    }


async def test_a_worker_that_left_goes_by_its_id(new_router: NewRouter, journal: Journal) -> None:
    router = await new_router(journal=journal)
    shown = (await router.client.get(f"{PATH}?request_id=req-1")).json()["decisions"][0]
    assert shown["worker"] == "u1"
    assert [one["worker"] for one in shown["candidates"]] == ["u1", "u2"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("reason=luck", "reason"),
        ("class=", "class"),
        ("request_id=", "request_id"),
        ("worker=u1", "worker"),
    ],
)
async def test_bad_parameters_are_named(
    new_router: NewRouter, journal: Journal, query: str, param: str
) -> None:
    router = await new_router(journal=journal)
    answer = await router.client.get(f"{PATH}?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert answer.json()["error"]["message"].startswith(f"{param}: ")


@pytest.mark.parametrize(
    ("journal", "hint"),
    [(None, "--policy"), (make_journal(num_kept=0), "--debug-decisions 0")],
    ids=["another policy", "turned off"],
)
async def test_says_why_there_is_nothing_to_explain(
    new_router: NewRouter, journal: Journal | None, hint: str
) -> None:
    router = await new_router(journal=journal)
    answer = await router.client.get(PATH)
    assert answer.status_code == 404
    assert hint in answer.json()["error"]["message"]


async def test_who_may_look_at_workers_may_look_at_decisions(
    new_router: NewRouter, journal: Journal
) -> None:
    viewer = ControlPlaneKey(key_id="k", name="V", role=KeyRole.USER, secret="look")
    router = await new_router(journal=journal, api_keys=ApiKeys("s3cret", [viewer]))
    for key, status in (("look", 200), ("s3cret", 401)):
        answer = await router.client.get(PATH, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == status
