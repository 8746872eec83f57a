"""Lets requests in: a concurrency limit, a rate limit and one first-come-first-served queue.

Knows tickets (the caller's own numbers), not requests; the caller wakes, answers and times.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass
from enum import StrEnum

from hfx_sgl.policy.bounds import at_least, check, more_than

_NUM_RELEASES_REMEMBERED = 64
_ROUNDING_TOKENS = 1e-4
_MIN_RETRY_AFTER_S = 1.0


class AdmissionOutcome(StrEnum):
    """What became of a request at the door. `offer` returns the first four."""

    ALLOWED = "allowed"
    QUEUED = "queued"
    QUEUE_FULL = "queue_full"
    RATE_LIMITED = "rate_limited"
    QUEUE_DEADLINE_EXCEEDED = "queue_deadline_exceeded"
    """What `expire` says of a ticket."""
    CANCELLED = "cancelled"
    """What a successful `cancel` says of a ticket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionConfig:
    """How much is let in at a time. Queue defaults are those of sglang-router 0.3.2."""

    max_concurrent: int | None
    """Requests active at the same time; None for no limit."""
    queue_size: int = 100
    """Requests that may wait; 0 turns away at once whoever cannot start."""
    queue_timeout_s: float = 60.0
    """How long one may wait."""
    rate_per_s: float | None = None
    """Requests let in per second, bursts of one second's worth allowed; None for no limit."""

    def __post_init__(self) -> None:
        check(
            None
            if self.max_concurrent is None
            else at_least("max_concurrent", self.max_concurrent, 1),
            at_least("queue_size", self.queue_size, 0),
            more_than("queue_timeout_s", self.queue_timeout_s, 0),
            None if self.rate_per_s is None else more_than("rate_per_s", self.rate_per_s, 0),
        )


class RateLimiter:
    """A token bucket of one second's worth (at least one token), kept as one instant.

    Instead of a fill level it holds when the bucket will be full again. So a caller that waits
    until `next_at_s` finds the token there, never a rounding error short of it.
    """

    __slots__ = ("_full_at_s", "_interval_s", "_slack_s")

    def __init__(self, rate_per_s: float) -> None:
        self._interval_s = 1.0 / rate_per_s
        self._slack_s = max(0.0, 1.0 - self._interval_s) + _ROUNDING_TOKENS * self._interval_s
        self._full_at_s: float | None = None

    @property
    def next_at_s(self) -> float | None:
        """When there is, or was, a token to take; None before the first was taken."""
        return None if self._full_at_s is None else self._full_at_s - self._slack_s

    def has_token(self, now_s: float) -> bool:
        """Return whether `take` would succeed."""
        next_at_s = self.next_at_s
        return next_at_s is None or now_s >= next_at_s

    def take(self, now_s: float) -> bool:
        """Take one token; False when there is none."""
        if not self.has_token(now_s):
            return False
        full_at_s = now_s if self._full_at_s is None else max(now_s, self._full_at_s)
        self._full_at_s = full_at_s + self._interval_s
        return True


class Admission:
    """The door of one router.

    A ticket is offered once and then ends exactly once: refused by `offer`, returned by `expire`,
    taken out by `cancel`, or let in (by `offer`, `release` or `poll`) and later released. Nobody
    overtakes: while somebody waits, a newcomer waits behind. `now_s` never decreases.
    """

    __slots__ = (
        "_config", "_held_s", "_held_s_at_releases", "_limiter", "_queue", "_seen_at_s",
        "num_active",
    )  # fmt: skip

    def __init__(self, config: AdmissionConfig) -> None:
        self._config = config
        self._limiter = None if config.rate_per_s is None else RateLimiter(config.rate_per_s)
        self._queue: OrderedDict[int, float] = OrderedDict()
        self._seen_at_s = 0.0
        self._held_s = 0.0
        """Slot-seconds used so far: the integral of `num_active` over time."""
        self._held_s_at_releases: deque[float] = deque([0.0], maxlen=_NUM_RELEASES_REMEMBERED + 1)
        self.num_active = 0
        """Tickets let in and not released. Written only here."""

    @property
    def num_queued(self) -> int:
        """Tickets that wait."""
        return len(self._queue)

    @property
    def wakes_at_s(self) -> float | None:
        """When to call `poll` and `expire` next; None while no time can change anything."""
        if not self._queue:
            return None
        deadline_s = next(iter(self._queue.values()))
        token_at_s = self._limiter.next_at_s if self._limiter is not None else None
        if token_at_s is None or not self._has_slot():
            return deadline_s
        return min(deadline_s, token_at_s)

    def offer(self, ticket: int, now_s: float) -> AdmissionOutcome:
        """Ask for `ticket` to be let in: allowed, queued, queue_full or rate_limited."""
        self._advance(now_s)
        has_slot = self._has_slot()
        if has_slot and not self._queue and (self._limiter is None or self._limiter.take(now_s)):
            self.num_active += 1
            return AdmissionOutcome.ALLOWED
        if len(self._queue) >= self._config.queue_size:
            return AdmissionOutcome.RATE_LIMITED if has_slot else AdmissionOutcome.QUEUE_FULL
        if ticket in self._queue:
            raise ValueError(f"admission: ticket {ticket} is already queued")
        self._queue[ticket] = now_s + self._config.queue_timeout_s
        return AdmissionOutcome.QUEUED

    def release(self, now_s: float) -> int | None:
        """Give an active ticket's slot back; return the waiting ticket that is let in for it.

        None when nobody waits, or when the rate limit makes them wait on: see `wakes_at_s`.
        """
        if self.num_active == 0:
            raise ValueError("admission: release without an active ticket")
        self._advance(now_s)
        self.num_active -= 1
        self._held_s_at_releases.append(self._held_s)
        return self._let_in_next(now_s)

    def cancel(self, ticket: int) -> bool:
        """Take a ticket out of the queue; False when it does not wait there (any more)."""
        return self._queue.pop(ticket, None) is not None

    def expire(self, now_s: float) -> list[int]:
        """Take out and return the tickets that have waited too long."""
        expired = []
        while self._queue:
            ticket, deadline_s = next(iter(self._queue.items()))
            if now_s < deadline_s:
                break
            del self._queue[ticket]
            expired.append(ticket)
        return expired

    def poll(self, now_s: float) -> list[int]:
        """Let in and return the waiting tickets for which the rate limit has room by now."""
        self._advance(now_s)
        let_in = []
        while (ticket := self._let_in_next(now_s)) is not None:
            let_in.append(ticket)
        return let_in

    def retry_after_s(self, now_s: float) -> float:
        """Estimate when a newcomer could start, from how long slots were held lately.

        Between one second and the queue timeout; the latter while no slot has come free yet.
        """
        self._advance(now_s)
        num_ahead = len(self._queue) + 1
        estimate_s = 0.0
        if self._config.max_concurrent is not None and not self._has_slot():
            num_released = len(self._held_s_at_releases) - 1
            if num_released == 0:
                return max(_MIN_RETRY_AFTER_S, self._config.queue_timeout_s)
            hold_s = (self._held_s - self._held_s_at_releases[0]) / num_released
            estimate_s = num_ahead * hold_s / self._config.max_concurrent
        if self._config.rate_per_s is not None:
            estimate_s = max(estimate_s, num_ahead / self._config.rate_per_s)
        return max(_MIN_RETRY_AFTER_S, min(estimate_s, self._config.queue_timeout_s))

    def _advance(self, now_s: float) -> None:
        """Account for the slots held since the last call, idle times counting for nothing."""
        if self.num_active:
            self._held_s += self.num_active * (now_s - self._seen_at_s)
        self._seen_at_s = now_s

    def _has_slot(self) -> bool:
        limit = self._config.max_concurrent
        return limit is None or self.num_active < limit

    def _let_in_next(self, now_s: float) -> int | None:
        """Move the ticket at the head from the queue to the active ones, if limits permit."""
        if not self._queue or not self._has_slot():
            return None
        if self._limiter is not None and not self._limiter.take(now_s):
            return None
        ticket, _ = self._queue.popitem(last=False)
        self.num_active += 1
        return ticket
