"""The way from one prefill worker to one decode worker: a table of transitions, and its clock.

Only what workers say of hand-offs may count as a failure here. Connections to the workers
themselves are the business of their breakers.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from hfx_sgl.policy.bounds import at_least, check, more_than


class LinkState(StrEnum):
    """What is known of one way; also a metric label."""

    UNKNOWN = "unknown"
    """Nothing has been handed over yet."""
    OK = "ok"
    """The last hand-off that ended succeeded."""
    SUSPECT = "suspect"
    """Something went wrong; still in use."""
    DOWN = "down"
    """Not in use until its cooldown is over."""
    DUE = "due"
    """The cooldown is over: the next request that comes this way is the trial."""
    TRIAL = "trial"
    """One request tries it; no other may."""


class LinkEvent(StrEnum):
    """What moves a link."""

    SUCCEEDED = "succeeded"
    """A request was handed over."""
    FAILED = "failed"
    """A worker said that a hand-off failed."""
    FAILURES_REACHED = "failures_reached"
    """The same, once too often in a row."""
    DOUBTED = "doubted"
    """A hint that something may be wrong: a request ran out of time, a probe found nobody."""
    REASSURED = "reassured"
    """What gave the hint is fine again."""
    COOLED_DOWN = "cooled_down"
    TAKEN = "taken"
    """A request is sent this way."""
    ABANDONED = "abandoned"
    """A request ended before its hand-off was decided."""
    RENEWED = "renewed"
    """One of the two workers has come back, perhaps as another process."""


BARRED_STATES = frozenset({LinkState.DOWN, LinkState.TRIAL})
"""No request may be sent this way."""

_S, _E = LinkState, LinkEvent

TRANSITIONS: dict[tuple[LinkState, LinkEvent], LinkState] = {
    (_S.UNKNOWN, _E.SUCCEEDED): _S.OK,
    (_S.UNKNOWN, _E.FAILED): _S.SUSPECT,
    (_S.UNKNOWN, _E.FAILURES_REACHED): _S.DOWN,
    (_S.UNKNOWN, _E.DOUBTED): _S.SUSPECT,
    (_S.OK, _E.FAILED): _S.SUSPECT,
    (_S.OK, _E.FAILURES_REACHED): _S.DOWN,
    (_S.OK, _E.DOUBTED): _S.SUSPECT,
    (_S.OK, _E.RENEWED): _S.UNKNOWN,
    (_S.SUSPECT, _E.SUCCEEDED): _S.OK,
    (_S.SUSPECT, _E.FAILURES_REACHED): _S.DOWN,
    (_S.SUSPECT, _E.REASSURED): _S.UNKNOWN,
    (_S.SUSPECT, _E.RENEWED): _S.UNKNOWN,
    (_S.DOWN, _E.COOLED_DOWN): _S.DUE,
    (_S.DOWN, _E.RENEWED): _S.UNKNOWN,
    (_S.DUE, _E.TAKEN): _S.TRIAL,
    (_S.DUE, _E.RENEWED): _S.UNKNOWN,
    (_S.TRIAL, _E.SUCCEEDED): _S.OK,
    (_S.TRIAL, _E.FAILED): _S.DOWN,
    (_S.TRIAL, _E.DOUBTED): _S.DOWN,
    (_S.TRIAL, _E.ABANDONED): _S.DUE,
    (_S.TRIAL, _E.RENEWED): _S.UNKNOWN,
}

WITHOUT_EFFECT: frozenset[tuple[LinkState, LinkEvent]] = frozenset(
    {
        (_S.UNKNOWN, _E.REASSURED),
        (_S.UNKNOWN, _E.RENEWED),
        (_S.OK, _E.SUCCEEDED),
        (_S.OK, _E.REASSURED),
        (_S.SUSPECT, _E.FAILED),
        (_S.SUSPECT, _E.DOUBTED),
        (_S.TRIAL, _E.REASSURED),
        # Of requests that were sent before the link went down: none may prolong or shorten that.
        *((state, event) for state in (_S.DOWN, _S.DUE) for event in (
            _E.SUCCEEDED, _E.FAILED, _E.DOUBTED, _E.REASSURED, _E.ABANDONED,
        )),
        *((state, _E.ABANDONED) for state in (_S.UNKNOWN, _S.OK, _S.SUSPECT)),
        *((state, _E.TAKEN) for state in (_S.UNKNOWN, _S.OK, _S.SUSPECT)),
    }
)  # fmt: skip
"""Events that may come in a state and change nothing."""


def next_state(state: LinkState, event: LinkEvent) -> LinkState:
    """Return where `event` leads from `state`.

    Raises:
        ValueError: the tables know no such event in that state.
    """
    if (state, event) in WITHOUT_EFFECT:
        return state
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"link: event {event} is impossible in state {state}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConfig:
    """When a link goes down, and for how long."""

    failure_threshold: int = 3
    """Failures without a success between them. One may be the fault of its request alone; with one
    pair of workers a second bad request in a row must not stop all others."""
    cooldown_s: float = 5.0
    """As often as SGLang's decode workers look after their prefill workers: whoever is back is
    noticed by both at about the same time."""
    max_cooldown_s: float = 120.0
    """Each trial that fails doubles the cooldown, up to here: a trial costs its request SGLang's
    own patience, 14 s where nobody answers the handshake."""

    def __post_init__(self) -> None:
        check(
            at_least("failure_threshold", self.failure_threshold, 1),
            more_than("cooldown_s", self.cooldown_s, 0),
            at_least("max_cooldown_s", self.max_cooldown_s, self.cooldown_s),
        )


class Link:
    """One way. Ask its state; tell it what happens."""

    __slots__ = (
        "_config", "_cooldown_s", "due_at_s", "num_failures", "reason", "since_s", "state",
    )  # fmt: skip

    def __init__(self, config: LinkConfig, now_s: float) -> None:
        self._config = config
        self._cooldown_s = config.cooldown_s
        self.state = LinkState.UNKNOWN
        self.since_s = now_s
        """When it came to this state."""
        self.due_at_s = math.inf
        """When its cooldown is over; `math.inf` unless it is down."""
        self.num_failures = 0
        """Since the last success."""
        self.reason = ""
        """What went wrong last, in one sentence; empty when nothing did, or all is well again."""

    @property
    def is_barred(self) -> bool:
        """Whether no request may come this way."""
        return self.state in BARRED_STATES

    def succeeded(self, now_s: float) -> bool:
        """A request was handed over; return whether the state changed."""
        if self.state is LinkState.DOWN or self.state is LinkState.DUE:
            return self._apply(LinkEvent.SUCCEEDED, now_s)
        self.num_failures = 0
        self.reason = ""
        self._cooldown_s = self._config.cooldown_s
        return self._apply(LinkEvent.SUCCEEDED, now_s)

    def failed(self, reason: str, now_s: float) -> bool:
        """A worker said that a hand-off failed; return whether the state changed."""
        if self.state is LinkState.DOWN or self.state is LinkState.DUE:
            return self._apply(LinkEvent.FAILED, now_s)
        self.num_failures += 1
        self.reason = reason
        is_counted = self.state is not LinkState.TRIAL
        if is_counted and self.num_failures >= self._config.failure_threshold:
            return self._apply(LinkEvent.FAILURES_REACHED, now_s)
        return self._apply(LinkEvent.FAILED, now_s)

    def doubted(self, reason: str, now_s: float) -> bool:
        """Something may be wrong; return whether the state changed."""
        if self.state in (LinkState.UNKNOWN, LinkState.OK, LinkState.TRIAL):
            self.reason = reason
        return self._apply(LinkEvent.DOUBTED, now_s)

    def reassured(self, now_s: float) -> bool:
        """What gave the doubt is fine; return whether the state changed. Failures are no doubts."""
        if self.state is LinkState.SUSPECT and self.num_failures:
            return False
        if self.state is LinkState.SUSPECT:
            self.reason = ""
        return self._apply(LinkEvent.REASSURED, now_s)

    def taken(self, now_s: float) -> bool:
        """A request is sent this way; return whether it is the trial."""
        return self._apply(LinkEvent.TAKEN, now_s)

    def abandoned(self, now_s: float) -> bool:
        """A request ended before its hand-off was decided; return whether the state changed."""
        return self._apply(LinkEvent.ABANDONED, now_s)

    def renewed(self, now_s: float) -> bool:
        """One of its workers has come back; return whether the state changed."""
        self.num_failures = 0
        self.reason = ""
        self._cooldown_s = self._config.cooldown_s
        return self._apply(LinkEvent.RENEWED, now_s)

    def poll(self, now_s: float) -> bool:
        """Let a trial through once the cooldown is over; return whether that happened."""
        if now_s < self.due_at_s:
            return False
        return self._apply(LinkEvent.COOLED_DOWN, now_s)

    def _apply(self, event: LinkEvent, now_s: float) -> bool:
        before = self.state
        state = next_state(before, event)
        if state is before:
            return False
        self.state = state
        self.since_s = now_s
        self.due_at_s = math.inf
        if state is LinkState.DOWN:
            if before is LinkState.TRIAL:
                self._cooldown_s = min(2 * self._cooldown_s, self._config.max_cooldown_s)
            self.due_at_s = now_s + self._cooldown_s
        return True
