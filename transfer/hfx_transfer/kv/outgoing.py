"""One hand-off as the sending engine sees it."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.kv.layout import KvLayout
from hfx_transfer.kv.offer import KvOffer
from hfx_transfer.kv.pump import Chunk, Flow
from hfx_transfer.kv.runs import SlotRun, slot_runs


class OutgoingKv:
    """Takes a prompt's KV while it is computed and brings it to the receiver. Does not block.

    The pages pushed must not change until `settled` has ended. Usable from any thread, chunk by
    chunk in any order; one call after the other.
    """

    def __init__(
        self,
        offer: KvOffer,
        layout: KvLayout,
        stop: Callable[["OutgoingKv", TransferError], None],
    ) -> None:
        self.offer = offer
        self.flow = Flow()
        self.accepted: Future[None] = Future()
        """Ends when the receiver has verified everything; or with a TransferError."""
        self.settled: Future[None] = Future()
        """Ends when nothing reads the pages any more; with a TransferError if that will never be
        known, and then they have to stay as they are while this process lives."""
        for future in (self.accepted, self.settled):
            # Nobody who waits for it, and tires of it, may cancel it for others.
            future.set_running_or_notify_cancel()
        self.num_tokens = 0
        self.metadata = b""
        self._layout = layout
        self._stop = stop
        self._last_runs: tuple[Sequence[int], int, int, tuple[SlotRun, ...]] | None = None

    def push_layer(
        self, layer: int, pages: Sequence[int], *, first_token: int = 0, num_tokens: int
    ) -> None:
        """Send some tokens of one layer: they are computed.

        Args:
            layer: from 0.
            pages: of this engine, from the one that holds `first_token` on.
            first_token: counted from the prompt's beginning.
            num_tokens: at least 1.

        Raises:
            ValueError: there is no such layer, page or token.
        """
        is_within = 0 <= first_token < first_token + num_tokens <= self.offer.max_tokens
        if not (0 <= layer < self._layout.num_layers and is_within):
            raise ValueError(
                f"layer {layer}, tokens {first_token} to {first_token + num_tokens}: the KV has "
                f"{self._layout.num_layers} layers and at most {self.offer.max_tokens} tokens"
            )
        chunk = Chunk(
            layer=layer,
            first_token=first_token,
            num_tokens=num_tokens,
            from_runs=self._runs(pages, first_token, num_tokens),
        )
        self.flow.add(chunk)

    def finish(self, num_tokens: int, *, metadata: bytes = b"") -> None:
        """Say that all was pushed.

        Args:
            num_tokens: of the whole prompt.
            metadata: for the receiving engine, such as the first token; at most 1 MiB.
        """
        if len(metadata) > _MAX_METADATA_BYTES:
            raise ValueError(f"metadata of {len(metadata)} bytes is too long")
        self.num_tokens, self.metadata = num_tokens, metadata
        self.flow.complete()

    def abort(self, reason: str) -> None:
        """Give the hand-off up; nothing happens when it is over."""
        self._stop(self, TransferError(reason, fault=TransferFault.ABORTED))

    def _runs(self, pages: Sequence[int], first_token: int, num_tokens: int) -> tuple[SlotRun, ...]:
        """Return the slots of some tokens; layer after layer has the same."""
        last = self._last_runs
        if last is not None and last[0] is pages and last[1:3] == (first_token, num_tokens):
            return last[3]
        if any(not 0 <= page < self._layout.num_pages for page in pages):
            raise ValueError(f"pages must be in 0..{self._layout.num_pages - 1}")
        runs = tuple(slot_runs(self._layout.page_tokens, pages, first_token, num_tokens))
        self._last_runs = (pages, first_token, num_tokens, runs)
        return runs


_MAX_METADATA_BYTES = 1 << 20
