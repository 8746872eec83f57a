"""Joins the prompt's log probabilities, which only the prefill computes, into the decode's answer.

Bytes in, bytes out: the payloads of both answers go in, the payload for the client comes out.
Nothing comes out before the prefill's answer is complete. An answer that does not look as
expected passes through unchanged.
"""

from collections.abc import Callable
from typing import Any

import orjson

_FIELD = "input_token_logprobs"
_DATA = b"data:"


class LogprobMerge:
    """Merges one pair of answers.

    Args:
        is_streaming: whether both are event streams.
        emit: receives the merged payload, piece by piece.
    """

    def __init__(self, *, is_streaming: bool, emit: Callable[[bytes], None]) -> None:
        self._is_streaming = is_streaming
        self._emit = emit
        self._prefill = bytearray()
        self._decode = bytearray()
        self._prompt_logprobs: dict[int, list[Any]] | None = None
        self._decode_is_done = False

    @property
    def is_done(self) -> bool:
        """Whether everything has been emitted."""
        return self._prompt_logprobs is not None and self._decode_is_done

    def feed_prefill(self, payload: bytes) -> None:
        """Take a piece of the prefill's answer."""
        self._prefill += payload

    def prefill_done(self) -> None:
        """The prefill's answer is complete."""
        if self._is_streaming:
            answers = [_loads(event) for event in bytes(self._prefill).split(b"\n\n")]
        else:
            answers = _as_list(_loads(bytes(self._prefill)))
        self._prompt_logprobs = {}
        for position, answer in enumerate(answers):
            index = answer.get("index", 0) if self._is_streaming else position
            self._prompt_logprobs.setdefault(index, _meta(answer).get(_FIELD) or [])
        self._advance()

    def feed_decode(self, payload: bytes) -> None:
        """Take a piece of the decode's answer."""
        self._decode += payload
        self._advance()

    def decode_done(self) -> None:
        """The decode's answer is complete."""
        self._decode_is_done = True
        self._advance()

    def _advance(self) -> None:
        if self._prompt_logprobs is None:
            return
        if self._is_streaming:
            *events, rest = bytes(self._decode).split(b"\n\n")
            self._decode = bytearray(rest)
            merged = b"".join(self._merge_event(event) + b"\n\n" for event in events)
            if self._decode_is_done:
                merged += rest
                self._decode.clear()
            if merged:
                self._emit(merged)
        elif self._decode_is_done:
            self._emit(self._merge_whole(bytes(self._decode)))

    def _merge_event(self, event: bytes) -> bytes:
        answer = _loads(event)
        if not self._merge_into(answer, answer.get("index", 0)):
            return event
        return b"data: " + orjson.dumps(answer)

    def _merge_whole(self, body: bytes) -> bytes:
        try:
            whole = orjson.loads(body)
        except orjson.JSONDecodeError:
            return body
        answers = _as_list(whole)
        merged = [self._merge_into(answer, index) for index, answer in enumerate(answers)]
        return orjson.dumps(whole) if any(merged) else body

    def _merge_into(self, answer: dict[str, Any], index: int) -> bool:
        meta = _meta(answer)
        if _FIELD not in meta:
            return False
        assert self._prompt_logprobs is not None
        meta[_FIELD] = self._prompt_logprobs.get(index, []) + (meta[_FIELD] or [])
        return True


def _loads(event: bytes) -> Any:
    """Return the JSON of an event or body; an empty object where there is none."""
    text = event.strip()
    if text.startswith(_DATA):
        text = text[len(_DATA) :]
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict | list) else {}


def _as_list(answer: Any) -> list[dict[str, Any]]:
    answers = answer if isinstance(answer, list) else [answer]
    return [item for item in answers if isinstance(item, dict)]


def _meta(answer: dict[str, Any]) -> dict[str, Any]:
    meta = answer.get("meta_info")
    return meta if isinstance(meta, dict) else {}
