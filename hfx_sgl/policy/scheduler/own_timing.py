"""Learns how long prefills take from when prompts were sent and when they were computed."""

import math

from hfx_sgl.policy.latency.prefill import Features, added

_WINDOW_S = 0.25
"""Prompts that follow each other are taken together for so long. Several may be computed in one
step and end one after the other: of each alone the times would be wrong, of all together not."""
_SILENT_S = 5.0
"""A worker that has computed prompts for so long without a report will not send any."""

Observation = tuple[Features, float]
"""Sums of the features of prompts, and how long they took together."""


class OwnTiming:
    """Of one worker, which computes prompts one after another, or several in a step.

    What was computed took the time since it was sent, or since the end of what was computed
    before, whichever was later. The way to the worker and back counts as its time: where it
    reports counters, these are better.
    """

    __slots__ = ("_features", "_first_end_s", "_took_s", "last_end_s")

    def __init__(self) -> None:
        self.last_end_s = -math.inf
        """When it was last known to have computed something."""
        self._features: Features | None = None
        self._took_s = 0.0
        self._first_end_s = math.inf

    def computed(self, features: Features, sent_at_s: float, now_s: float) -> Observation | None:
        """A prompt was computed; return what a window shows that ends here, None: it goes on."""
        self._first_end_s = min(self._first_end_s, now_s)
        was_idle = sent_at_s > self.last_end_s
        found = self._take() if was_idle else None
        took_s = now_s - (sent_at_s if was_idle else self.last_end_s)
        self.last_end_s = now_s
        before = self._features
        self._features = features if before is None else added(before, features)
        self._took_s += took_s
        if found is None and self._took_s >= _WINDOW_S:
            return self._take()
        return found

    def is_silent(self, now_s: float) -> bool:
        """Whether a worker that has not reported anything so far is not going to."""
        return now_s - self._first_end_s > _SILENT_S

    def interrupted(self, now_s: float) -> None:
        """Something else took the worker's time, up to then."""
        self._features = None
        self._took_s = 0.0
        self.last_end_s = now_s

    def _take(self) -> Observation | None:
        if self._features is None:
            return None
        found = self._features, self._took_s
        self._features = None
        self._took_s = 0.0
        return found
