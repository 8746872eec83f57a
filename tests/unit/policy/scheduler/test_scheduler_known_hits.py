"""What workers say that they have cached, by their own KV events."""

import pytest
from msgspec.structs import replace
from support.scheduling import UNIFIED, dispatched, plain_scheduler, request

SHARED = range(50)
"""500 tokens."""


@pytest.mark.parametrize("home", ["u0", "u1"])
def test_a_prompt_goes_where_it_is_said_to_be_cached(home: str) -> None:
    scheduler = plain_scheduler(UNIFIED)
    scheduler.arrive(replace(request("a", 600), known_hit_tokens={home: 500}))
    (dispatch,) = dispatched(scheduler, 0.0)
    assert (dispatch.worker_id, dispatch.num_hit_tokens) == (home, 500)
    assert dispatch.predicted_prefill_s == pytest.approx(0.1)


def test_one_token_at_least_is_computed() -> None:
    scheduler = plain_scheduler(UNIFIED)
    scheduler.arrive(replace(request("a", 600), known_hit_tokens={"u1": 600}))
    (dispatch,) = dispatched(scheduler, 0.0)
    assert dispatch.num_hit_tokens == 599


def test_workers_that_are_not_there_have_nothing() -> None:
    scheduler = plain_scheduler(UNIFIED)
    scheduler.arrive(replace(request("a", 600), known_hit_tokens={"gone": 500}))
    (dispatch,) = dispatched(scheduler, 0.0)
    assert dispatch.num_hit_tokens == 0


def test_what_was_sent_since_counts_too() -> None:
    scheduler = plain_scheduler(UNIFIED)
    scheduler.arrive(request("before", 510, block_digests=SHARED))
    (before,) = dispatched(scheduler, 0.0)
    scheduler.prefill_over("before", 0.6)
    said = {"u0": 0, "u1": 0}
    facts = request("a", 600, at_s=1.0, block_digests=SHARED)
    scheduler.arrive(replace(facts, known_hit_tokens=said))
    (dispatch,) = dispatched(scheduler, 1.0)
    assert (dispatch.worker_id, dispatch.num_hit_tokens) == (before.worker_id, 500)
