"""What explains one decision to people: the numbers that it was made of."""

from enum import StrEnum

from msgspec import Struct


class Reason(StrEnum):
    """Why a request went where it went, or nowhere."""

    ON_TIME = "on_time"
    """Kept on time, in the order of deadlines."""
    PREFIX_HOME = "prefix_home"
    """The same, on the worker that has most of its prefix."""
    LATE = "late"
    """Its promise cannot be kept any more; nobody whose promise can be was there."""
    AGED = "aged"
    """The same, and it had waited for so long that others gave way."""
    INFEASIBLE = "infeasible"
    """Rejected: its promise cannot be kept."""
    STUCK = "stuck"
    """Taken back from a worker that does not get to it."""
    PASSED_OVER = "passed_over"
    """Taken back from a prefill worker that has long since computed later ones."""


NOT_SENT = frozenset((Reason.INFEASIBLE, Reason.STUCK, Reason.PASSED_OVER))
"""Decisions that send a request nowhere."""


class Candidate(Struct, frozen=True, gc=False):
    """One worker as it was seen for the request. Prefill worker or unified worker."""

    worker_id: str
    begins_in_s: float
    """When it would get to the prompt."""
    prefill_s: float
    """How long the prompt would take there."""
    num_hit_tokens: int
    step_s: float | None
    """Time of a decode step with it; None for prefill workers."""
    has_room: bool
    """Whether its KV would fit."""


class Decision(Struct, frozen=True, gc=False):
    """One decision. Times in seconds."""

    request_id: str
    class_name: str
    at_s: float
    waited_s: float
    """In the queue."""
    reason: Reason
    worker_id: str | None
    """Who answers; None when it was not sent."""
    prefill_worker_id: str | None
    predicted_ttft_s: float
    """From its arrival; what was expected anywhere when it was not sent."""
    predicted_tpot_s: float
    slack_s: float
    """Time to spare before its deadline for the first token; negative: late by that."""
    num_prompt_tokens: int
    num_hit_tokens: int
    expected_output_tokens: int
    num_waiting: int
    """Requests left in the queue, late ones included."""
    num_late: int
    """Of them, those that can no longer be on time."""
    candidates: tuple[Candidate, ...]
    """The workers that were looked at; the chosen one first."""
