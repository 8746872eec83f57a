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
            answers = [_event_json(event) for event in bytes(self._prefill).split(b"\n\n")]
        else:
            answers = _answers(_loads(self._prefill))
        self._prompt_logprobs = {}
        for position, answer in enumerate(answers):
            index = _index(answer) if self._is_streaming else position
            logprobs = _meta(answer).get(_FIELD)
            if isinstance(logprobs, list):
                self._prompt_logprobs.setdefault(index, logprobs)
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
        answer = _event_json(event)
        if not self._merge_into(answer, _index(answer)):
            return event
        return b"data: " + orjson.dumps(answer)

    def _merge_whole(self, body: bytes) -> bytes:
        whole = _loads(body)
        merged = [self._merge_into(answer, at) for at, answer in enumerate(_answers(whole))]
        return orjson.dumps(whole) if any(merged) else body

    def _merge_into(self, answer: dict[str, Any], index: int) -> bool:
        meta = _meta(answer)
        logprobs = (meta[_FIELD] or []) if _FIELD in meta else None
        if not isinstance(logprobs, list):
            return False
        assert self._prompt_logprobs is not None
        meta[_FIELD] = self._prompt_logprobs.get(index, []) + logprobs
        return True


def _loads(text: bytes | bytearray) -> Any:
    """Return the value of a JSON text; None where it is none."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _event_json(event: bytes) -> dict[str, Any]:
    """Return the JSON object of an event; an empty one where there is none."""
    answer = _loads(event.strip().removeprefix(_DATA))
    return answer if isinstance(answer, dict) else {}


def _answers(whole: Any) -> list[dict[str, Any]]:
    """Return the answers of a body: of a batch a list of them, else one."""
    answers = whole if isinstance(whole, list) else [whole]
    return [item if isinstance(item, dict) else {} for item in answers]


def _index(answer: dict[str, Any]) -> int:
    """Return which prompt of its batch an event answers."""
    index = answer.get("index", 0)
    return index if isinstance(index, int) else 0


def _meta(answer: dict[str, Any]) -> dict[str, Any]:
    meta = answer.get("meta_info")
    return meta if isinstance(meta, dict) else {}
