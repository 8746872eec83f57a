"""What answers prove of times that nobody tells: they took no longer than the answers did."""

import math

from hfx_sgl.policy.latency.prefill import Features, added

_WINDOW_S = 0.02
"""Prompts that come and go within this are taken together: of each alone less can be said."""

Bound = tuple[Features, float]
"""Sums of the features of prompts, and a time within which one worker computed all of them."""


class TimeBound:
    """Of one worker. A window begins with the sending of the prompt whose answer came first.

    What was sent and answered within a window was computed within it. How much sooner is unknown:
    this proves predictions too high, and never too low.
    """

    __slots__ = ("_began_at_s", "_ended_at_s", "_features")

    def __init__(self) -> None:
        self._began_at_s = self._ended_at_s = -math.inf
        self._features: Features | None = None

    def answered(self, features: Features, sent_at_s: float, now_s: float) -> Bound | None:
        """An answer came, or its prompt is known to be computed; return what a window shows."""
        found = None
        if sent_at_s > self._ended_at_s:
            found = self._take()  # the worker may have had nothing to do in between
        if self._features is None:
            self._began_at_s = sent_at_s
            self._features = features
        elif sent_at_s >= self._began_at_s:
            self._features = added(self._features, features)
        self._ended_at_s = now_s
        if now_s - self._began_at_s >= _WINDOW_S:
            return found or self._take()
        return found

    def _take(self) -> Bound | None:
        if self._features is None:
            return None
        bound = self._features, self._ended_at_s - self._began_at_s
        self._features = None
        return bound
