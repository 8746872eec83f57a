"""Estimates how long prompts are: counted where that is possible in time, else by a ratio."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from hfx_router.estimates.token_thread import TokenThread
from hfx_router.estimates.tokenizer import PromptText, TokenCount
from hfx_sgl.policy.estimates.prompt_size import PromptSize, size_of
from hfx_sgl.policy.estimates.prompt_tokens import PromptTokens

_PRIOR_WRAPPING_TOKENS = 5.0
"""What a template writes around a message: a role, its marks and a line end or two."""
_WRAPPING_SHARE = 0.05
_MAX_WRAPPING_TOKENS = 200.0


class PromptEstimate(Struct, frozen=True, gc=False):
    """What is known of a prompt when its request has to be placed."""

    num_tokens: int
    """At least 1."""
    size: PromptSize
    """For `observe`."""
    is_counted: bool = False
    """Whether a tokenizer counted them."""
    token_ids: Sequence[int] | None = None
    """The tokens, where they are known."""
    num_bare_messages: int = 0
    """See TokenCount."""


OnEstimate = Callable[[PromptEstimate], None]


class Timers(Protocol):
    """What an event loop offers."""

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call after some time."""
        ...


class PromptEstimates:
    """Answers each question once, at once or after `wait_s` at the latest.

    Args:
        thread: counts with a tokenizer; None without one.
        wait_s: how long a request may wait for a count. A count that comes later still teaches
            the ratio.
    """

    def __init__(
        self,
        tokens: PromptTokens,
        thread: TokenThread | None,
        timers: Timers,
        *,
        wait_s: float = 0.005,
    ) -> None:
        self._tokens = tokens
        self._token_thread = thread
        self._timers = timers
        self._wait_s = wait_s
        self._wrapping_tokens = _PRIOR_WRAPPING_TOKENS

    def ask(
        self, model: str, class_name: str, prompt: PromptText, then: OnEstimate
    ) -> "Question | None":
        """Have `then` told how long the prompt is.

        Returns None when it was told at once, else what can be withdrawn.
        """
        size = size_of(prompt.prompt_json, prompt.tools_json)
        if self._token_thread is not None and size.num_ids is None and size.text_bytes:
            question = Question(self, model, class_name, size, then)
            if self._token_thread.count(prompt, question.counted):
                question.wait(self._timers, self._wait_s)
                return question
        then(self.guess(model, class_name, size))
        return None

    def guess(self, model: str, class_name: str, size: PromptSize) -> PromptEstimate:
        """Return an estimate by the ratio; exact for token ids."""
        return PromptEstimate(self._tokens.estimate(model, class_name, size), size)

    def counted(
        self, model: str, class_name: str, size: PromptSize, count: TokenCount
    ) -> PromptEstimate:
        """Return what a count says, and learn from it."""
        num_tokens = count.num_tokens
        if count.num_bare_messages:
            num_tokens += round(self._wrapping_tokens * count.num_bare_messages)
        elif not size.num_media:
            self._tokens.observe(model, class_name, size, num_tokens)
        if size.num_media:  # a template writes one token where the model sees hundreds
            media = self._tokens.estimate(model, class_name, PromptSize(0, size.num_media, None))
            num_tokens += media
        return PromptEstimate(
            num_tokens=max(1, num_tokens),
            size=size,
            is_counted=True,
            token_ids=None if size.num_media else count.token_ids,
            num_bare_messages=count.num_bare_messages,
        )

    def observe(
        self, model: str, class_name: str, estimate: PromptEstimate, num_prompt_tokens: int
    ) -> None:
        """Learn from the length that the answer states; of a batch, the sum of its prompts."""
        if estimate.num_bare_messages:
            self._observe_wrapping(estimate, num_prompt_tokens)
        self._tokens.observe(model, class_name, estimate.size, num_prompt_tokens)

    def _observe_wrapping(self, estimate: PromptEstimate, num_prompt_tokens: int) -> None:
        missed = (num_prompt_tokens - estimate.num_tokens) / estimate.num_bare_messages
        known = self._wrapping_tokens + _WRAPPING_SHARE * missed
        self._wrapping_tokens = min(max(known, 0.0), _MAX_WRAPPING_TOKENS)


class Question:
    """A prompt that is being counted."""

    __slots__ = ("_class_name", "_estimates", "_model", "_size", "_then", "_timer")

    def __init__(
        self,
        estimates: PromptEstimates,
        model: str,
        class_name: str,
        size: PromptSize,
        then: OnEstimate,
    ) -> None:
        self._estimates = estimates
        self._model = model
        self._class_name = class_name
        self._size = size
        self._then: OnEstimate | None = then
        self._timer: asyncio.TimerHandle | None = None

    def wait(self, timers: Timers, wait_s: float) -> None:
        """Answer with a guess when no count comes in time."""
        self._timer = timers.call_later(wait_s, self._time_is_up)

    def counted(self, count: TokenCount | None) -> None:
        """The tokenizer has answered; None: it does not understand the prompt."""
        if count is not None:
            estimate = self._estimates.counted(self._model, self._class_name, self._size, count)
        else:
            estimate = self._estimates.guess(self._model, self._class_name, self._size)
        self._answer(estimate)

    def withdraw(self) -> None:
        """Nobody wants to know any more. The count still teaches the ratio."""
        self._then = None
        self._stop_timer()

    def _time_is_up(self) -> None:
        self._answer(self._estimates.guess(self._model, self._class_name, self._size))

    def _answer(self, estimate: PromptEstimate) -> None:
        then, self._then = self._then, None
        self._stop_timer()
        if then is not None:
            then(estimate)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
