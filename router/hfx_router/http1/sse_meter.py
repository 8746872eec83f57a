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

_OUTPUT_TOKENS = (b'"completion_tokens":', b'"output_tokens":')
"""The latter is how `/v1/responses` calls it."""

_PROMPT_TOKENS = (b'"prompt_tokens":', b'"input_tokens":')
_CACHED_TOKENS = (b'"cached_tokens":',)
_NUMBER = re.compile(rb"\s*(\d+)")

_FAILURE = re.compile(
    rb'^data: ?\{"(?:error"|object": ?"error")|"finish_reason": ?(?:\{"type": ?)?"abort"',
    re.MULTILINE,
)
"""An error event, or a request that the worker aborted. Inside JSON text quotes are escaped, so an
answer cannot imitate either."""


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
    def tail(self) -> bytes:
        """The end of the stream, as far as it is kept."""
        self._digest()
        return bytes(self._recent)

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
        stated = self.num_stated_tokens
        if stated is not None:
            return stated
        return max(0, self.num_events - num_extra_events - (1 if self.is_done else 0))

    @property
    def num_stated_tokens(self) -> int | None:
        """The last count of output tokens that the answer states; None when it states none."""
        self._digest()
        return _last_count(_OUTPUT_TOKENS, self._recent)

    @property
    def num_stated_prompt_tokens(self) -> int | None:
        """The last count of prompt tokens that the answer states; None when it states none."""
        self._digest()
        return _last_count(_PROMPT_TOKENS, self._recent)

    @property
    def num_stated_cached_tokens(self) -> int | None:
        """Of these, how many the worker had cached; None when the answer does not say."""
        self._digest()
        return _last_count(_CACHED_TOKENS, self._recent)

    @property
    def has_failed(self) -> bool:
        """Whether the answer ends with an error or an abort, whatever its status said."""
        self._digest()
        return _FAILURE.search(self._recent) is not None


class WholeAnswer:
    """The same questions about an answer that came in one piece."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    @property
    def num_stated_tokens(self) -> int | None:
        """The last count of output tokens that the answer states; None when it states none."""
        return _last_count(_OUTPUT_TOKENS, self._body)

    @property
    def num_stated_prompt_tokens(self) -> int | None:
        """The last count of prompt tokens that the answer states; None when it states none."""
        return _last_count(_PROMPT_TOKENS, self._body)

    @property
    def num_stated_cached_tokens(self) -> int | None:
        """Of these, how many the worker had cached; None when the answer does not say."""
        return _last_count(_CACHED_TOKENS, self._body)

    @property
    def has_failed(self) -> bool:
        """Whether the worker aborted it; the status tells of all other failures."""
        body = self._body
        start = max(0, len(body) - _USAGE_WINDOW_BYTES)
        # Looking for the word costs less than the pattern, which hardly any answer needs.
        return body.find(b'"abort"', start) >= 0 and _FAILURE.search(body, start) is not None


def _last_count(names: tuple[bytes, ...], text: bytes | bytearray) -> int | None:
    """Return the last number that follows one of the names, near the end of the text."""
    start = max(0, len(text) - _USAGE_WINDOW_BYTES)
    found: re.Match[bytes] | None = None
    for name in names:
        end = len(text)
        while (position := text.rfind(name, start, end)) >= 0:
            number = _NUMBER.match(text, position + len(name))
            if number is not None:
                found = number
                start = position  # of the other name only what comes after it counts
                break
            end = position
    return None if found is None else int(found[1])
