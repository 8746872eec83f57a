"""One prompt on its way through a worker, and what is known about it so far."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Protocol

from hfx_sgl.clock import Clock
from hfx_sgl.emulator.failures import Failure
from hfx_sgl.emulator.output import output_tokens, seed_of
from hfx_sgl.engine.events import Finished, FinishReason
from hfx_sgl.engine.request import EngineRequest
from hfx_sgl.prompt import Prompt
from hfx_sgl.types import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Where prefill and decode meet for one prompt: SGLang's `bootstrap_*` fields."""

    number: int
    host: str | None
    port: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a client wants for one prompt."""

    rid: str
    data: bytes
    """The prompt's tokens, four bytes each; at least one token."""
    prompt: Prompt
    """The same, as the engine knows it."""
    max_new_tokens: int
    """May be 0: then the prompt is computed and nothing is said."""
    num_output_tokens: int
    """How many it produces, at most `max_new_tokens`."""
    priority: int = 0
    room: Room | None = None

    @property
    def num_prompt_tokens(self) -> int:
        """Length of the prompt in tokens."""
        return self.prompt.num_tokens


class Handoff(Protocol):
    """This side's part in handing over one prompt's KV. None of these calls the driver back."""

    def kv_allocated(self) -> None:
        """Decode role: there is room for the KV."""
        ...

    def kv_sent(self) -> None:
        """Prefill role: the KV is on the other side; `ended` follows at once."""
        ...

    def ended(self, num_cached_tokens: int) -> None:
        """The prompt has left this worker, for whatever reason."""
        ...


class Sequence:
    """The driver reports to it, an endpoint reads from it.

    Args:
        unix_s: the present in seconds since 1970, for what people read.
        observe_gap: told how long a token let wait for itself, and of how many this holds.
    """

    def __init__(
        self,
        ask: Ask,
        role: Role,
        *,
        clock: Clock,
        unix_s: float,
        observe_gap: Callable[[float, int], None],
    ) -> None:
        self.ask = ask
        self.role = role
        self.request = EngineRequest(
            request_id=ask.rid,
            prompt=ask.prompt,
            num_output_tokens=max(1, ask.num_output_tokens),
            max_new_tokens=max(1, ask.max_new_tokens),
            priority=ask.priority,
        )
        self.num_tokens = 0
        self.finished: Finished | None = None
        self.failure: Failure | None = None
        self.num_handed_cached_tokens = 0
        """Decode role: what the prefill side found in its cache."""
        self.is_granted = False
        """Prefill role: the decode side had room for it."""
        self.on_update: Callable[[Sequence], None] | None = None
        """Called after each change, the end included."""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_end: Callable[[Sequence], None] | None = None
        self.handoff: Handoff | None = None
        self.handoff_problem: str | None = None
        """What the other side failed at; None when that is not known."""
        self.handoff_cause: str | None = None
        """Why it did; None when it is gone, or gave up."""
        self._clock = clock
        self._observe_gap = observe_gap
        self._unix_offset_s = unix_s - clock.now_s()
        self.received_at_s = clock.now_s()
        self.first_token_at_s: float | None = None
        self._last_token_at_s: float | None = None
        self.finished_at_s: float | None = None

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will come."""
        return self.ended.done()

    @property
    def num_cached_tokens(self) -> int:
        """Prompt tokens taken from a cache, as far as is known."""
        own = self.finished.num_cached_tokens if self.finished else 0
        return own + self.num_handed_cached_tokens

    def unix_s(self, instant_s: float) -> float:
        """Return an instant of the worker's clock in seconds since 1970."""
        return instant_s + self._unix_offset_s

    def output(self, start: int, stop: int) -> bytes:
        """Return some of its output tokens, four bytes each."""
        return output_tokens(seed_of(self.ask.prompt), start, stop)

    def fail(self, failure: Failure) -> None:
        """End it before or in place of the engine."""
        if not self.ended.done():
            self.failure = failure
            self._end()

    def on_tokens(self, num_output_tokens: int) -> None:
        """See driver.Listener."""
        num_output_tokens = min(num_output_tokens, self.ask.num_output_tokens)
        if num_output_tokens > self.num_tokens and not self.ended.done():
            self._count(num_output_tokens)
            # The last token is announced together with the end.
            if self.on_update is not None and not self._is_last():
                self.on_update(self)

    def on_kv_allocated(self) -> None:
        """See driver.Listener."""
        if self.handoff is not None:
            self.handoff.kv_allocated()

    def on_kv_sent(self) -> None:
        """See driver.Listener."""
        if self.handoff is not None:
            self.handoff.kv_sent()

    def on_finished(self, finished: Finished) -> None:
        """See driver.Listener."""
        if self.ended.done():
            return
        self._count(min(finished.num_output_tokens, self.ask.num_output_tokens))
        if self.first_token_at_s is None and finished.first_token_at_s is not None:
            # Nobody asked for tokens, and yet there was one.
            self.first_token_at_s = self._clock.now_s()
        self.finished = replace(finished, num_output_tokens=self.num_tokens)
        self.failure = self.failure or self._failure(finished)
        self._end()

    def _count(self, num_tokens: int) -> None:
        """Take note of the instants of new tokens."""
        num_new = num_tokens - self.num_tokens
        if num_new <= 0:
            return
        self.num_tokens = num_tokens
        now_s = self._clock.now_s()
        if self.first_token_at_s is None or self._last_token_at_s is None:
            self.first_token_at_s = now_s
        else:
            self._observe_gap((now_s - self._last_token_at_s) / num_new, num_new)
        self._last_token_at_s = now_s

    def _is_last(self) -> bool:
        limit = 1 if self.role is Role.PREFILL else self.ask.num_output_tokens
        return self.num_tokens >= limit

    def _failure(self, finished: Finished) -> Failure | None:
        """Return how an end without result is told; an abort that left tokens is a result."""
        if finished.reason is FinishReason.HANDOFF_FAILED:
            cause = self.handoff_cause or "Lost connection with the other side"
            return Failure(HTTPStatus.INTERNAL_SERVER_ERROR, self._pd_failure(cause))
        if finished.reason is FinishReason.EVICTED:
            message = "The request is evicted from the queue by one of higher priority."
            return Failure(HTTPStatus.SERVICE_UNAVAILABLE, message, is_early=True)
        if finished.reason is not FinishReason.ABORTED or self.ask.room is None:
            return None
        has_waited = not self.is_granted if self.role is Role.PREFILL else self.num_tokens == 0
        if has_waited and self.role is not Role.REGULAR:
            return Failure(HTTPStatus.INTERNAL_SERVER_ERROR, self._pd_failure("Aborted."))
        return None

    def _pd_failure(self, cause: str) -> str:
        stage = "Prefill bootstrap" if self.role is Role.PREFILL else "Decode transfer"
        stage = self.handoff_problem or stage
        room = None if self.ask.room is None else self.ask.room.number
        return f"{stage} failed for request {self.ask.rid!r}, bootstrap_room={room}: {cause}"

    def _end(self) -> None:
        self.finished_at_s = self._clock.now_s()
        self.ended.set_result(None)
        if self.on_update is not None:
            self.on_update(self)
        if self.handoff is not None:
            self.handoff.ended(self.num_cached_tokens)
        if self.on_end is not None:
            self.on_end(self)
