"""Prefill role: the KV that is on its way to decode engines."""

from typing import NamedTuple

from hfx_sgl.engine.link import SharedLink
from hfx_sgl.engine.sequence import Sequence
from hfx_sgl.engine.steps import Chunk


class Sent(NamedTuple):
    """A hand-off that is complete."""

    at_s: float
    sequence: Sequence
    num_bytes: int
    duration_s: float
    """From the end of the first chunk."""


class KvSender:
    """Sends the chunks of prompts over one link, as they are computed."""

    def __init__(self, *, bytes_per_s: float, latency_s: float, bytes_per_token: int) -> None:
        self._link = SharedLink(bytes_per_s, latency_s)
        self._bytes_per_token = bytes_per_token
        # With the instant at which the first bytes were handed over.
        self._transfers: dict[str, tuple[Sequence, float]] = {}
        self._num_sending = 0

    @property
    def num_sending(self) -> int:
        """Hand-offs of prompts that are computed to the end."""
        return self._num_sending

    def send(self, chunk: Chunk, now_s: float) -> None:
        """Send a chunk; with the first one goes the cached prefix, which the other side lacks."""
        sequence = chunk.sequence
        transfer_id = sequence.request_id
        if transfer_id in self._transfers:
            self._link.add_bytes(transfer_id, chunk.num_tokens * self._bytes_per_token, now_s)
        else:
            num_tokens = chunk.num_prefix_tokens + chunk.num_tokens
            self._transfers[transfer_id] = (sequence, now_s)
            self._link.start(transfer_id, num_tokens * self._bytes_per_token, now_s)
        if chunk.is_last:
            self._num_sending += 1
            self._link.close(transfer_id, now_s)

    def cancel(self, sequence: Sequence, now_s: float, *, is_computed: bool) -> None:
        """Stop a hand-off, if it has begun."""
        if self._transfers.pop(sequence.request_id, None) is not None:
            self._num_sending -= is_computed
            self._link.cancel(sequence.request_id, now_s)

    def next_s(self) -> float:
        """Return a lower bound of when the next one is complete."""
        return self._link.next_completion_s()

    def advance(self, now_s: float) -> list[Sent]:
        """Return what is complete by now, in order of time."""
        sent = []
        for at_s, transfer_id in self._link.advance(now_s):
            sequence, begun_at_s = self._transfers.pop(transfer_id)
            self._num_sending -= 1
            num_bytes = sequence.num_prompt_tokens * self._bytes_per_token
            sent.append(Sent(at_s, sequence, num_bytes, at_s - begun_at_s))
        return sent
