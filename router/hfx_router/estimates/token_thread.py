"""Counts tokens in a thread of its own, so that the event loop does not wait for a tokenizer."""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress

import structlog

from hfx_router.estimates.tokenizer import PromptText, TokenCount, Tokenizer

_log = structlog.get_logger(__name__)

_CLOSE_TIMEOUT_S = 1.0
"""Not even the longest prompt takes that long, and the thread ends with the process."""

OnCounted = Callable[[TokenCount | None], None]
"""Takes None for a prompt that the tokenizer does not understand."""


class TokenThread:
    """One thread and its queue.

    Args:
        run_in_loop: the event loop's `call_soon_threadsafe`.
        max_queued: prompts that may wait. More of them would have their numbers too late.
        max_prompt_bytes: longer prompts are not taken; one would keep the others waiting for long.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        run_in_loop: Callable[..., object],
        *,
        max_queued: int = 64,
        max_prompt_bytes: int = 1_000_000,
    ) -> None:
        self._tokenizer = tokenizer
        self._run_in_loop = run_in_loop
        self._max_prompt_bytes = max_prompt_bytes
        self._jobs: queue.Queue[tuple[PromptText, OnCounted] | None] = queue.Queue(max_queued)
        self._is_closing = False
        self.num_refused = 0
        """Prompts not taken, because too many waited or they were too long."""
        self.num_failed = 0
        """Prompts that the tokenizer did not understand."""
        self._thread = threading.Thread(target=self._run, name="tokenizer", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def count(self, prompt: PromptText, on_counted: OnCounted) -> bool:
        """Have a prompt counted; `on_counted` is called in the event loop.

        Returns whether it was taken; if not, nothing is called.
        """
        if len(prompt.prompt_json) + len(prompt.tools_json) <= self._max_prompt_bytes:
            try:
                self._jobs.put_nowait((prompt, on_counted))
                return True
            except queue.Full:
                pass
        self.num_refused += 1
        return False

    def close(self) -> None:
        """Finish the prompt that is being counted, drop the others."""
        self._is_closing = True
        with suppress(queue.Full):  # whoever works at a full queue looks at the flag
            self._jobs.put_nowait(None)
        self._thread.join(_CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None and not self._is_closing:
            prompt, on_counted = job
            count = self._count(prompt)
            if not self._is_closing:
                self._run_in_loop(on_counted, count)

    def _count(self, prompt: PromptText) -> TokenCount | None:
        try:
            return self._tokenizer.count(prompt)
        except Exception as exc:  # of a tokenizer, a template and a client's JSON, whatever it is
            self.num_failed += 1
            if self.num_failed == 1:
                _log.warning("prompt_not_counted", reason=repr(exc))
            return None
