"""When a run may be used."""

import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

from support.load import load, planned
from support.planned_server import PlannedServer, serve_whole

from hfx_sgl.results.record import Status
from hfx_sgl.workload.planned import PlannedRequest


async def test_a_run_that_sent_in_time_is_valid(server: PlannedServer) -> None:
    harvest = await load(server.url, [planned(number, at_s=number * 0.02) for number in range(20)])
    assert harvest.verdict.is_valid
    assert harvest.verdict.problems == ()
    assert harvest.verdict.p99_send_error_ms is not None
    assert harvest.verdict.p99_send_error_ms <= 50


async def test_a_client_that_is_late_makes_the_run_invalid(server: PlannedServer) -> None:
    def requests() -> Iterator[PlannedRequest]:
        yield planned(0)
        time.sleep(0.4)  # what a client does that cannot keep up
        yield planned(1, at_s=0.05)

    harvest = await load(server.url, requests())
    assert not harvest.verdict.is_valid
    assert "error in sending time" in harvest.verdict.problems[0]
    assert harvest.records[1].sent_at_s - harvest.records[1].scheduled_at_s > 0.1
    assert harvest.records[1].status is Status.OK


async def test_a_bound_on_concurrency_that_binds_is_said(server: PlannedServer) -> None:
    server.plans["slow"] = partial(serve_whole, delay_s=0.1)
    requests = [planned(number, kind="slow") for number in range(3)]
    harvest = await load(server.url, requests, max_concurrency=1)
    assert [record.status for record in harvest.records.values()] == [Status.OK] * 3
    assert "not open-loop: 2 of 3 requests" in harvest.verdict.problems[0]
    assert not harvest.verdict.is_valid
    records = sorted(harvest.records.values(), key=lambda record: record.sent_at_s)
    for earlier, later in pairwise(records):
        assert earlier.e2e_s is not None
        assert later.sent_at_s > earlier.sent_at_s + earlier.e2e_s - 1e-6


async def test_a_bound_that_does_not_bind_is_nothing_to_say(server: PlannedServer) -> None:
    harvest = await load(server.url, [planned(0), planned(1, at_s=0.2)], max_concurrency=1)
    assert harvest.verdict.problems == ()


async def test_no_request_is_no_run(server: PlannedServer) -> None:
    harvest = await load(server.url, [])
    assert not harvest.verdict.is_valid
    assert harvest.verdict.problems == ("the workload has no request",)
