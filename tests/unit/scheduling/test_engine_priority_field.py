"""Whether and how a request's urgency is written into its body."""

import json

import pytest
from hfx_router.body.inspect import read_routing_fields
from hfx_router.exchange.priority import with_priority
from hfx_router.scheduling.dispatcher import Assignment
from hfx_router.workers.worker import Worker, WorkerSpec

from hfx_sgl.policy.breaker import Breaker, BreakerConfig
from hfx_sgl.policy.health import HealthConfig, HealthTracker

HIGH_FIRST: dict[str, object] = {"enable_priority_scheduling": True}
LOW_FIRST: dict[str, object] = {**HIGH_FIRST, "schedule_low_priority_values_first": True}
NONE: dict[str, object] = {"enable_priority_scheduling": False}
BODY = b'{"text":"hi"}'


def worker(metadata: dict[str, object]) -> Worker:
    health = HealthTracker(HealthConfig(), is_healthy=True)
    made = Worker("w", WorkerSpec(url="http://10.0.0.1:1"), Breaker(BreakerConfig()), health)
    made.metadata = metadata
    return made


def prioritised(body: bytes, *metadata: dict[str, object], priority: int = -1234) -> bytes:
    workers = [worker(one) for one in metadata]
    assignment = Assignment(worker=workers[-1], prefill=None, priority=priority)
    return with_priority(body, read_routing_fields(body), assignment, workers)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ([HIGH_FIRST], -1234),
        ([LOW_FIRST], 1234),
        ([HIGH_FIRST, HIGH_FIRST], -1234),
        ([LOW_FIRST, LOW_FIRST], 1234),
    ],
)
def test_engines_that_schedule_by_priority_are_told(
    metadata: list[dict[str, object]], expected: int
) -> None:
    body = prioritised(BODY, *metadata)
    assert json.loads(body) == {"text": "hi", "priority": expected}


@pytest.mark.parametrize(
    "metadata",
    [
        [NONE],
        [{}],
        [{"schedule_low_priority_values_first": True}],
        [{"enable_priority_scheduling": "true"}],
        [HIGH_FIRST, NONE],
        [HIGH_FIRST, LOW_FIRST],
    ],
)
def test_a_body_stays_where_the_workers_do_not_agree(metadata: list[dict[str, object]]) -> None:
    assert prioritised(BODY, *metadata) == BODY


@pytest.mark.parametrize("own", ["5", "-5", "0", "null"])
def test_a_priority_that_the_client_chose_stays(own: str) -> None:
    body = b'{"text":"hi","priority":%b}' % own.encode()
    assert prioritised(body, HIGH_FIRST) == body


def test_of_two_requests_the_more_urgent_one_goes_first_either_way() -> None:
    def priorities(metadata: dict[str, object]) -> list[int]:
        return [
            json.loads(prioritised(BODY, metadata, priority=priority))["priority"]
            for priority in (-1000, -2000)
        ]

    assert priorities(HIGH_FIRST) == [-1000, -2000]
    assert priorities(LOW_FIRST) == [1000, 2000]
