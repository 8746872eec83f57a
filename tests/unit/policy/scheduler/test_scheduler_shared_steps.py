"""Prompts that wait on a worker may be computed in one step: nobody is put where it harms."""

import pytest
from support.scheduling import (
    MARGIN_S,
    dispatched,
    entry,
    plain_models,
    plain_scheduler,
    request,
    worker,
)

from hfx_sgl.policy.scheduler.worker_state import WorkerState
from hfx_sgl.types import Role


def with_two(deadline_s: float) -> WorkerState:
    """One prompt until second 1, and behind it one until second 3 that has this deadline."""
    state = WorkerState(worker("w"), plain_models())
    state.add_prompt(entry(0, service_s=1.0, deadline_s=1.5), 0.0)
    state.add_prompt(entry(1, service_s=2.0, deadline_s=deadline_s), 0.0)
    return state


@pytest.mark.parametrize(
    ("deadline_s", "ends_at_s", "is_borne"),
    [
        (4.0, 3.5, True),
        (4.0, 4.0, True),
        (4.0, 4.5, False),
        (2.5, 4.5, True),  # late already
    ],
)
def test_a_prompt_comes_only_if_who_waits_there_could_end_with_it(
    deadline_s: float, ends_at_s: float, is_borne: bool
) -> None:
    assert with_two(deadline_s).bears(ends_at_s, 0.5) is is_borne


def test_what_is_begun_ends_by_itself() -> None:
    state = with_two(4.0)
    assert not state.bears(9.0, 0.99)
    # The second has been begun, too.
    assert state.bears(9.0, 1.01)


def test_an_empty_worker_bears_anything() -> None:
    assert WorkerState(worker("w"), plain_models()).bears(1e9, 0.0)


@pytest.mark.parametrize(("spare_s", "is_sent"), [(0.008, False), (0.012, True)])
def test_a_prompt_is_not_put_behind_one_that_it_could_make_late(
    spare_s: float, is_sent: bool
) -> None:
    scheduler = plain_scheduler((("u0", Role.REGULAR),))
    scheduler.arrive(request("first", 5, ttft_s=0.005 + MARGIN_S + 0.001))
    scheduler.arrive(request("second", 5, ttft_s=0.01 + MARGIN_S + spare_s))
    scheduler.arrive(request("third", 10))
    sent = [dispatch.request_id for dispatch in dispatched(scheduler, 0.0)]
    assert sent == ["first", "second", "third"][: 2 + is_sent]
    # Once the second is begun, the third cannot get into its step.
    scheduler.prefill_over("first", 0.005)
    later = [dispatch.request_id for dispatch in dispatched(scheduler, 0.006)]
    assert later == ([] if is_sent else ["third"])
