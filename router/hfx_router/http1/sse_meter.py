"""Counts the events of a server-sent event stream as they pass, wherever the stream is cut.

An event's data line begins a line, and a line feed inside JSON text is always escaped, so counting
line-initial `data:` counts events without parsing any.
"""

import re

_DATA_LINE = b"\ndata:"
_DONE = b"data: [DONE]"
_USAGE_WINDOW_BYTES = 4096
"""How much of the stream's end is searched for a token count; a final usage event is under 1 kB."""
_BATCH_PIECES = 32
"""Pieces of a stream that are kept to be counted together."""

_COMPLETION_TOKENS = re.compile(rb'"completion_tokens":\s*(\d+)')


class SseMeter:
    """Feed it the payload of the stream, then ask."""

    __slots__ = ("_carry", "_num_events", "_pieces", "_recent")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._carry = b"\n"  # a stream begins at the beginning of a line
        self._recent = bytearray()
        self._num_events = 0

    def feed(self, payload: bytes) -> None:
        """Take the next piece of the stream."""
        self._pieces.append(payload)
        if len(self._pieces) >= _BATCH_PIECES or len(payload) > _USAGE_WINDOW_BYTES:
            self._digest()

    def _digest(self) -> None:
        """Count what has gathered: many pieces at once cost hardly more than one."""
        payload = b"".join(self._pieces)
        self._pieces.clear()
        lines = self._carry + payload
        self._num_events += lines.count(_DATA_LINE)
        self._carry = lines[1 - len(_DATA_LINE) :]
        self._recent += payload[-_USAGE_WINDOW_BYTES:]
        del self._recent[:-_USAGE_WINDOW_BYTES]

    @property
    def num_events(self) -> int:
        """Data lines seen, a final `[DONE]` included."""
        self._digest()
        return self._num_events

    @property
    def at_event_boundary(self) -> bool:
        """Whether a new event could begin here."""
        self._digest()
        return self._recent.endswith(b"\n\n") or not self._recent

    @property
    def is_done(self) -> bool:
        """Whether the stream has said `[DONE]`."""
        self._digest()
        return bytes(self._recent).rstrip().endswith(_DONE)

    def num_output_tokens(self, num_extra_events: int = 0) -> int:
        """Return the tokens generated: the stream's own last count, else its events.

        `num_extra_events` do not count as tokens, and `[DONE]` never does.

        SGLang reports `completion_tokens` in each event of `/generate`, and at the end of OpenAI
        streams that ask for usage; otherwise one event stands for one token.
        """
        self._digest()
        tail = bytes(self._recent)
        counts = _COMPLETION_TOKENS.findall(tail)
        if counts:
            return int(counts[-1])
        return max(0, self.num_events - num_extra_events - (1 if self.is_done else 0))
