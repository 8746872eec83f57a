"""The prefill side of a hand-off of real bytes: its end is the later of the model's and theirs."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from hfx_sgl.emulator.kv.protocol import KvMover, Sending
from hfx_sgl.emulator.sequence import Sequence
from hfx_sgl.engine.events import Finished, FinishReason


class RealSending:
    """Listens to the engine in place of a sequence, and keeps its end back until the KV is there.

    Args:
        sequence: told everything in its time.
        fail: ends the hand-off in the engine; for when the bytes do not arrive.
    """

    def __init__(self, sequence: Sequence, mover: KvMover, *, fail: Callable[[], None]) -> None:
        self._sequence = sequence
        self._mover = mover
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._sending: Sending | None = None
        self._is_pushed = False
        self._is_there = False
        """The other side has verified the bytes."""
        self._is_due = False
        """By the model, the transfer is over."""
        self._held: Finished | None = None

    def granted(self, offer: str) -> None:
        """The decode side has memory."""
        num_tokens = self._sequence.ask.num_prompt_tokens
        self._sending = self._mover.send(offer, num_tokens, on_end=self._ended_elsewhere)

    def end(self, reason: FinishReason) -> None:
        """End what only waits for its bytes; the engine knows nothing of it any more."""
        if self._held is not None:
            held, self._held = self._held, None
            self._sequence.on_finished(replace(held, reason=reason))

    def cancel(self) -> None:
        """The sequence has ended."""
        if self._sending is not None:
            self._sending.cancel()

    def on_tokens(self, num_output_tokens: int) -> None:
        """See driver.Listener; the first token says that the prompt is computed."""
        if self._sending is not None and not self._is_pushed:
            self._is_pushed = True
            self._sending.push()
        self._sequence.on_tokens(num_output_tokens)

    def on_kv_allocated(self) -> None:
        """See driver.Listener."""
        self._sequence.on_kv_allocated()

    def on_kv_sent(self) -> None:
        """See driver.Listener."""
        self._is_due = True
        if self._is_there:
            self._sequence.on_kv_sent()

    def on_finished(self, finished: Finished) -> None:
        """See driver.Listener."""
        if self._is_due and not self._is_there:
            self._held = finished
        else:
            self._sequence.on_finished(finished)

    def _ended_elsewhere(self, problem: str | None) -> None:
        self._loop.call_soon_threadsafe(self._ended, problem)

    def _ended(self, problem: str | None) -> None:
        if self._sequence.is_ended:
            return
        if problem is not None:
            self._sequence.handoff_problem = "Prefill transfer"
            self._sequence.handoff_cause = problem
            self._fail()
            return
        self._is_there = True
        if self._held is not None:
            held, self._held = self._held, None
            self._sequence.on_kv_sent()
            self._sequence.on_finished(held)
