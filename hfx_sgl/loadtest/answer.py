"""What a streamed answer says and when it said it. Touches no socket and reads no clock.

The definitions are those of `sglang.bench_serving`, except for where an answer ends and for
`/generate`, whose times between tokens are times between events here as for the other endpoints:
- the first token is the first event with text in it; events that only name a role do not count;
- the last token is the last event with text or with a finish reason, not the `[DONE]` after it;
- events that were read together arrived together.

An event is recognised as text by its bytes. Only the others are parsed as JSON, a handful per
answer, and the last one with text.
"""

import re
from array import array
from collections.abc import Mapping

import orjson

from hfx_sgl.loadtest.event_splitter import EventSplitter

_DONE = b"[DONE]"
_TEXT = re.compile(rb'(?:content|reasoning|text)":\s?"[^"]')
"""Keys that hold output, with a value that is not empty. Inside a JSON string the quotes would be
escaped, so text cannot imitate a key."""
_MESSAGE_CHARS = 300


class StreamedAnswer:
    """Follows one answer with status 200. Feed it the body as it arrives, then ask."""

    __slots__ = (
        "_last_text_event", "_splitter", "_text_at_s", "cached_tokens", "error", "first_at_s",
        "has_finished", "is_done", "itls_s", "last_at_s", "num_text_events", "output_tokens",
        "prompt_tokens",
    )  # fmt: skip

    def __init__(self) -> None:
        self._splitter = EventSplitter()
        self._last_text_event: bytes | None = None
        self._text_at_s = 0.0
        self.num_text_events = 0
        self.first_at_s: float | None = None
        """When the first token arrived; None before it did."""
        self.last_at_s: float | None = None
        self.itls_s: array[float] = array("d")
        """Times between events with text, each after the first."""
        self.has_finished = False
        """Whether the answer gave a reason for its end."""
        self.is_done = False
        """Whether `[DONE]` came."""
        self.error: str | None = None
        """What an error event said, or how the server ended the answer early."""
        self.output_tokens: int | None = None
        """By the server's count; None when it gave none. So are the two below."""
        self.prompt_tokens: int | None = None
        self.cached_tokens: int | None = None

    def feed(self, payload: bytes, now_s: float) -> None:
        """Take bytes of the body that arrived at `now_s`."""
        for event in self._splitter.feed(payload):
            if _TEXT.search(event) is not None:
                self._take_text(event, now_s)
            elif event == _DONE:
                self.is_done = True
            elif event:
                self._take_other(event, now_s)

    def close(self) -> None:
        """Say that nothing more comes; what the last event with text said is read now."""
        if self._last_text_event is not None:
            self._read(self._last_text_event)

    def _take_text(self, event: bytes, now_s: float) -> None:
        if self.first_at_s is None:
            self.first_at_s = now_s
        else:
            self.itls_s.append(now_s - self._text_at_s)
        self._text_at_s = self.last_at_s = now_s
        self._last_text_event = event
        self.num_text_events += 1

    def _take_other(self, event: bytes, now_s: float) -> None:
        had_finished = self.has_finished
        self._read(event)
        if self.has_finished and not had_finished:
            self.last_at_s = now_s
            if self.first_at_s is None:
                # Every token was one without text, such as an end of sequence.
                self.first_at_s = now_s

    def _read(self, event: bytes) -> None:
        """Take over what an event says beside its text."""
        try:
            content = orjson.loads(event)
        except orjson.JSONDecodeError:
            self.error = self.error or f"an event is not JSON: {_shortened(event)}"
            return
        if not isinstance(content, dict):
            self.error = self.error or f"an event is not an object: {_shortened(event)}"
            return
        if content.get("error") or content.get("object") == "error":
            self.error = self.error or f"error event: {_shortened(event)}"
        self._read_usage(_object(content, "usage"))
        meta = _object(content, "meta_info")
        self._read_usage(meta)
        self._read_finish(meta.get("finish_reason"))
        choices = content.get("choices")
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict):
                    self._read_finish(choice.get("finish_reason"))

    def _read_usage(self, usage: Mapping[str, object]) -> None:
        details = _object(usage, "prompt_tokens_details")
        self.output_tokens = _count(usage, "completion_tokens", self.output_tokens)
        self.prompt_tokens = _count(usage, "prompt_tokens", self.prompt_tokens)
        self.cached_tokens = _count(usage, "cached_tokens", self.cached_tokens)
        self.cached_tokens = _count(details, "cached_tokens", self.cached_tokens)

    def _read_finish(self, reason: object) -> None:
        if reason is None:
            return
        self.has_finished = True
        kind = reason.get("type") if isinstance(reason, dict) else reason
        if kind == "abort":
            self.error = self.error or "the server aborted the request"


def _object(content: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _count(content: Mapping[str, object], key: str, known: int | None) -> int | None:
    """Return the count under `key`; counts of a stream only grow, so the larger one is kept."""
    value = content.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        return known
    return value if known is None else max(known, value)


def _shortened(content: bytes) -> str:
    return content.decode("utf-8", "replace")[:_MESSAGE_CHARS]
