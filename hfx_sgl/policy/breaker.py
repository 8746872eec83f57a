"""The circuit breaker of one worker: a table of transitions and the counters that trigger them.

Only transport failures may be fed to it: no connection, a connection that broke, no answer in
time. An answer is an answer whatever its status, because a client can provoke any status and
must not be able to take a worker out of service. Keeping to that is the caller's duty.
"""

from collections import Counter, deque
from dataclasses import dataclass
from enum import StrEnum

from hfx_sgl.policy.bounds import at_least, check, more_than


class BreakerState(StrEnum):
    """Whether a worker gets requests."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerEvent(StrEnum):
    """What moves a breaker."""

    FAILURES_REACHED = "failures_reached"
    TIMEOUT_ELAPSED = "timeout_elapsed"
    TRIAL_FAILED = "trial_failed"
    TRIALS_SUCCEEDED = "trials_succeeded"


TRANSITIONS: dict[tuple[BreakerState, BreakerEvent], BreakerState] = {
    (BreakerState.CLOSED, BreakerEvent.FAILURES_REACHED): BreakerState.OPEN,
    (BreakerState.OPEN, BreakerEvent.TIMEOUT_ELAPSED): BreakerState.HALF_OPEN,
    (BreakerState.HALF_OPEN, BreakerEvent.TRIAL_FAILED): BreakerState.OPEN,
    (BreakerState.HALF_OPEN, BreakerEvent.TRIALS_SUCCEEDED): BreakerState.CLOSED,
}


def next_state(state: BreakerState, event: BreakerEvent) -> BreakerState:
    """Return where `event` leads from `state`.

    Raises:
        ValueError: the table has no such transition.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"breaker: event {event} is impossible in state {state}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """When a breaker opens and closes. The defaults are those of sglang-router 0.3.2."""

    failure_threshold: int = 10
    """Failures within `window_s` that open it."""
    success_threshold: int = 3
    """Successes without a failure between them that close it from half-open."""
    timeout_s: float = 60.0
    """How long it stays open before trial requests are let through."""
    window_s: float = 120.0
    """How long a failure counts."""
    enabled: bool = True
    """False keeps it closed for ever; the consecutive counters still run."""

    def __post_init__(self) -> None:
        check(
            at_least("failure_threshold", self.failure_threshold, 1),
            at_least("success_threshold", self.success_threshold, 1),
            more_than("timeout_s", self.timeout_s, 0),
            more_than("window_s", self.window_s, 0),
        )


class Breaker:
    """One worker's breaker.

    Requests that were sent before it opened still report; in the open state they change the
    consecutive counters and nothing else, so that they cannot prolong or shorten the timeout.
    """

    __slots__ = (
        "_config", "_failed_at_s", "allows", "consecutive_failures", "consecutive_successes",
        "num_transitions", "reopens_at_s", "state",
    )  # fmt: skip

    def __init__(self, config: BreakerConfig) -> None:
        self._config = config
        self._failed_at_s: deque[float] = deque()
        self.state = BreakerState.CLOSED
        self.allows = True
        """False in the open state, and in no other. Written only here."""
        self.reopens_at_s: float | None = None
        """When `poll` will let trial requests through; None unless the state is open."""
        self.consecutive_failures = 0
        self.consecutive_successes = 0
        self.num_transitions: Counter[tuple[BreakerState, BreakerState]] = Counter()

    def record_success(self, now_s: float) -> bool:
        """Count a request whose transport worked; return whether the state changed."""
        self.consecutive_failures = 0
        self.consecutive_successes += 1
        if self.state is not BreakerState.HALF_OPEN:
            return False
        if self.consecutive_successes < self._config.success_threshold:
            return False
        self._move(BreakerEvent.TRIALS_SUCCEEDED, now_s)
        return True

    def record_failure(self, now_s: float) -> bool:
        """Count a transport failure; return whether the state changed."""
        self.consecutive_successes = 0
        self.consecutive_failures += 1
        if self.state is BreakerState.OPEN or not self._config.enabled:
            return False
        if self.state is BreakerState.HALF_OPEN:
            self._move(BreakerEvent.TRIAL_FAILED, now_s)
            return True
        failed_at_s = self._failed_at_s
        failed_at_s.append(now_s)
        while failed_at_s[0] <= now_s - self._config.window_s:
            failed_at_s.popleft()
        if len(failed_at_s) < self._config.failure_threshold:
            return False
        self._move(BreakerEvent.FAILURES_REACHED, now_s)
        return True

    def poll(self, now_s: float) -> bool:
        """Let trial requests through once the timeout is over; return whether that happened."""
        if self.reopens_at_s is None or now_s < self.reopens_at_s:
            return False
        self._move(BreakerEvent.TIMEOUT_ELAPSED, now_s)
        return True

    def _move(self, event: BreakerEvent, now_s: float) -> None:
        state = next_state(self.state, event)
        self.num_transitions[self.state, state] += 1
        self.state = state
        self.allows = state is not BreakerState.OPEN
        self.reopens_at_s = None if self.allows else now_s + self._config.timeout_s
        if state is BreakerState.HALF_OPEN:
            self.consecutive_successes = 0
        self._failed_at_s.clear()
