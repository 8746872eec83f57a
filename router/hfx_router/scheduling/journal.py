"""Keeps the scheduler's last decisions, and joins each with the request that it was about.

A decision names a ticket; people know a request by its `x-request-id`, its promise and what
became of it. Nothing is rendered here.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from hfx_router.metrics.scheduling_recorder import SchedulingRecorder
from hfx_sgl.policy.scheduler.decision import NOT_SENT, Decision
from hfx_sgl.policy.scheduler.facts import RequestFacts


class Actual(NamedTuple):
    """How a request ended."""

    status: int
    """Of the answer; 499 when the client left."""
    stream: tuple[float, float | None] | None
    """Time to first token, and per output token after it with two or more; None where they cannot
    be seen, in answers that are no stream."""
    is_met: bool | None
    """Whether its promise was kept; None without one, and when its end does not tell."""


class Story:
    """One request while the scheduler has it, and for as long as a decision about it is kept."""

    __slots__ = ("_end", "decision", "facts", "label", "request_id")

    def __init__(self, facts: RequestFacts, request_id: bytes, label: str) -> None:
        self.facts = facts
        self.request_id = request_id
        """As its client knows it: `x-request-id`."""
        self.label = label
        """Of its class, in metrics."""
        self.decision: Decision | None = None
        """By which it was sent; None while it waits."""
        self._end: tuple[int, tuple[float, float | None] | None, bool | None] | None = None

    @property
    def has_deadline(self) -> bool:
        """Whether its promise says by when its first token must be there."""
        slo = self.facts.slo
        return slo.ttft_s < math.inf or slo.e2e_s < math.inf

    @property
    def actual(self) -> Actual | None:
        """How it ended; None until it has, and when it is tried again elsewhere."""
        return None if self._end is None else Actual(*self._end)

    def ended(
        self, status: int, stream: tuple[float, float | None] | None, is_met: bool | None
    ) -> None:
        """Note how it ended; see `Actual`."""
        self._end = status, stream, is_met

    @property
    def shown_request_id(self) -> str:
        """Its request id as text."""
        return self.request_id.decode("latin-1")


class Journal:
    """Told of requests by the exchanges and of decisions by the dispatcher.

    Args:
        num_kept: how many decisions are kept; 0: none, and only counts remain.
    """

    def __init__(
        self, recorder: SchedulingRecorder, *, num_kept: int, now_s: Callable[[], float]
    ) -> None:
        self.recorder = recorder
        self.now_s = now_s
        self._kept: deque[tuple[Decision, Story]] = deque(maxlen=num_kept)
        self._stories: dict[str, Story] = {}
        """Of all requests that are not over, by ticket."""

    @property
    def max_kept(self) -> int:
        """How many decisions are kept at most."""
        return self._kept.maxlen or 0

    @property
    def num_under_way(self) -> int:
        """Requests that are not over."""
        return len(self._stories)

    def newest_first(self) -> Iterator[tuple[Decision, Story]]:
        """Yield what is kept."""
        return reversed(self._kept)

    def waiting(self) -> Iterator[tuple[str, bool]]:
        """Yield the class label of each waiting request, and whether it is late.

        Late: the time to first token that it was promised is over.
        """
        now_s = self.now_s()
        for story in self._stories.values():
            if story.decision is None:
                facts = story.facts
                yield story.label, facts.arrived_at_s + facts.slo.ttft_s < now_s

    # --- what happens; on the byte path ---

    def applied(self, facts: RequestFacts, request_id: bytes) -> None:
        """A request wants to be sent."""
        label = self.recorder.class_labels.label(facts.class_name)
        self._stories[facts.request_id] = Story(facts, request_id, label)

    def decided(self, decision: Decision) -> None:
        """The scheduler has decided about one of them."""
        story = self._stories[decision.request_id]
        self._kept.append((decision, story))
        recorder = self.recorder
        reason = decision.reason
        recorder.decisions[reason] += 1
        if reason in NOT_SENT:
            story.decision = None
            return
        story.decision = decision
        slack_s = decision.slack_s if story.has_deadline else None
        recorder.sent(story.label, decision.waited_s, slack_s)

    def given_up(self, ticket: str) -> None:
        """An attempt at the request has failed; it goes on under another ticket."""
        del self._stories[ticket]

    def ended(
        self,
        ticket: str,
        status: int,
        stream: tuple[float, float | None] | None,
        is_met: bool | None,
    ) -> None:
        """The request has ended; see `Actual`."""
        story = self._stories.pop(ticket)
        story.ended(status, stream, is_met)
        decision = story.decision
        if decision is None or stream is None:
            return
        ttft_s, tpot_s = stream
        recorder = self.recorder
        recorder.ttft_error_s.observe(ttft_s - decision.predicted_ttft_s)
        if tpot_s is not None:
            recorder.tpot_error_s.observe(tpot_s - decision.predicted_tpot_s)
