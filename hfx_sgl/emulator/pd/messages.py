"""What prefill and decode workers tell each other. One JSON text for each message."""

from dataclasses import dataclass
from enum import StrEnum

import orjson

RENDEZVOUS_PATH = "/emulated/rendezvous"

ROUTE_PATH = "/route"
ROUTE_QUERY = ("prefill_dp_rank", "prefill_cp_rank", "target_tp_rank", "target_pp_rank")
"""What has to be asked at SGLang's `/route`; -1 everywhere asks for the pool as a whole."""


class Topic(StrEnum):
    """What has happened to a room."""

    GRANTED = "granted"
    WITHDRAWN = "withdrawn"
    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Message:
    """One event of one room."""

    topic: Topic
    room: int
    num_cached_tokens: int = 0
    """With `SENT`: prompt tokens that the prefill side had in its cache."""
    offer: str | None = None
    """With `GRANTED`: where real bytes are to go; None when nothing but messages moves."""

    def encode(self) -> str:
        """Return the text that goes over the wire."""
        return orjson.dumps(self).decode()


def decode_message(text: str | bytes) -> Message:
    """Return the message of a text.

    Raises:
        ValueError: it is none.
    """
    value = orjson.loads(text)
    match value:
        case {
            "topic": str(topic),
            "room": int(room),
            "num_cached_tokens": int(num_cached),
            "offer": str() | None as offer,
        }:
            return Message(Topic(topic), room, num_cached, offer)
    raise ValueError(f"no message: {text!r}")
