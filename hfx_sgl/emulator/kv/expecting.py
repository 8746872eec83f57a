"""The decode side of a hand-off of real bytes: memory, the offer, and the bytes' arrival."""

import asyncio
from collections.abc import Callable

from hfx_sgl.emulator.kv.protocol import Expected, KvMover


class RealExpecting:
    """One prompt's KV on its way to this worker, and here until `cancel`.

    Args:
        num_tokens: of the prompt.
        on_offer: called with what the prefill side needs to know.
        on_end: called when the bytes are here, with None, or with what is wrong.
    """

    def __init__(
        self,
        mover: KvMover,
        num_tokens: int,
        *,
        on_offer: Callable[[str], None],
        on_end: Callable[[str | None], None],
    ) -> None:
        self._on_offer = on_offer
        self._on_end = on_end
        self._is_cancelled = False
        self._loop = asyncio.get_running_loop()
        self._expected: Expected = mover.expect(
            num_tokens, on_offer=self._offered_elsewhere, on_end=self._ended_elsewhere
        )

    def cancel(self) -> None:
        """Nobody waits for the KV, or needs it any more."""
        self._is_cancelled = True
        self._expected.cancel()

    def _offered_elsewhere(self, offer: str) -> None:
        self._loop.call_soon_threadsafe(self._offered, offer)

    def _ended_elsewhere(self, problem: str | None) -> None:
        self._loop.call_soon_threadsafe(self._ended, problem)

    def _offered(self, offer: str) -> None:
        if not self._is_cancelled:
            self._on_offer(offer)

    def _ended(self, problem: str | None) -> None:
        if not self._is_cancelled:
            self._on_end(problem)
