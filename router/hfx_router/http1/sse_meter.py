"""Counts the events of a server-sent event stream as they pass, wherever the stream is cut.

An event's data line begins a line, and a line feed inside JSON text is always escaped, so counting
line-initial `data:` counts events without parsing any.
"""

import re

_DATA_LINE = b"\ndata:"
_DONE = b"data: [DONE]"
_USAGE_WINDOW_BYTES = 4096
"""How much of the stream's end is searched for a token count; a final usage event is under 1 kB."""
_COMPLETION_TOKENS = re.compile(rb'"completion_tokens":\s*(\d+)')


class SseMeter:
    """Feed it the payload of the stream, then ask."""

    __slots__ = ("_carry", "_recent", "num_events")

    def __init__(self) -> None:
        self._carry = b"\n"  # a stream begins at the beginning of a line
        self._recent = bytearray()
        self.num_events = 0
        """Data lines seen, a final `[DONE]` included."""

    def feed(self, payload: bytes) -> None:
        """Take the next piece of the stream."""
        piece = self._carry + payload
        self.num_events += piece.count(_DATA_LINE)
        self._carry = piece[1 - len(_DATA_LINE) :]
        recent = self._recent
        recent += payload
        if len(recent) > 4 * _USAGE_WINDOW_BYTES:
            del recent[:-_USAGE_WINDOW_BYTES]

    @property
    def at_event_boundary(self) -> bool:
        """Whether a new event could begin here."""
        return self._recent.endswith(b"\n\n") or not self._recent

    @property
    def is_done(self) -> bool:
        """Whether the stream has said `[DONE]`."""
        return bytes(self._recent[-_USAGE_WINDOW_BYTES:]).rstrip().endswith(_DONE)

    def num_output_tokens(self, num_extra_events: int = 0) -> int:
        """Return the tokens generated: the stream's own last count, else its events.

        `num_extra_events` do not count as tokens, and `[DONE]` never does.

        SGLang reports `completion_tokens` in each event of `/generate`, and at the end of OpenAI
        streams that ask for usage; otherwise one event stands for one token.
        """
        tail = bytes(self._recent[-_USAGE_WINDOW_BYTES:])
        counts = _COMPLETION_TOKENS.findall(tail)
        if counts:
            return int(counts[-1])
        return max(0, self.num_events - num_extra_events - (1 if self.is_done else 0))
