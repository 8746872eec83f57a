"""Joins the prompt's log probabilities, which only the prefill computes, into the decode's answer.

Bytes in, bytes out: the payloads of both answers go in, the payload for the client comes out.
Nothing comes out before the prefill's answer is complete. An answer that does not look as
expected passes through unchanged. Where in an answer they stand is `logprob_places`'s matter.
"""

from collections.abc import Callable
from typing import Any

import orjson

from hfx_router.exchange.logprob_places import LogprobPlaces

_DATA = b"data:"


class LogprobMerge:
    """Merges one pair of answers.

    Args:
        is_streaming: whether both are event streams.
        places: finds the log probabilities in an answer.
        emit: receives the merged payload, piece by piece.
    """

    def __init__(
        self, *, is_streaming: bool, places: LogprobPlaces, emit: Callable[[bytes], None]
    ) -> None:
        self._is_streaming = is_streaming
        self._places = places
        self._emit = emit
        self._prefill = bytearray()
        self._decode = bytearray()
        self._prefill_is_done = False
        self._decode_is_done = False

    @property
    def is_done(self) -> bool:
        """Whether everything has been emitted."""
        return self._prefill_is_done and self._decode_is_done

    def feed_prefill(self, payload: bytes) -> None:
        """Take a piece of the prefill's answer."""
        self._prefill += payload

    def prefill_done(self) -> None:
        """The prefill's answer is complete."""
        if self._is_streaming:
            answers = [_event_json(event) for event in bytes(self._prefill).split(b"\n\n")]
        else:
            answers = _answers(_loads(self._prefill))
        for position, answer in enumerate(answers):
            self._places.learn(answer, _index(answer) if self._is_streaming else position)
        self._prefill_is_done = True
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
        if not self._prefill_is_done:
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
        if not self._places.join(answer, _index(answer)):
            return event
        return b"data: " + orjson.dumps(answer)

    def _merge_whole(self, body: bytes) -> bytes:
        whole = _loads(body)
        merged = [self._places.join(answer, at) for at, answer in enumerate(_answers(whole))]
        return orjson.dumps(whole) if any(merged) else body


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
