"""What an engine reports: things that somebody outside has to act on, each with its instant."""

from dataclasses import dataclass
from enum import StrEnum


class FinishReason(StrEnum):
    """Why a request ended."""

    STOP = "stop"
    """It produced what it had to, before `max_new_tokens`."""
    LENGTH = "length"
    """It produced `max_new_tokens`."""
    ABORTED = "abort"
    """Somebody asked for it."""
    HANDOFF_FAILED = "handoff_failed"
    """The other side of the hand-off is gone."""
    EVICTED = "evicted"
    """It lost its place in a queue that is full; a server answers 503."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KvAllocated:
    """Decode role: room for the prompt's KV is reserved; the prefill side may be told."""

    at_s: float
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstToken:
    """The first output token exists on this side.

    Of a prefill engine: when its prefill step ends. Of a decode engine: when the request joins
    the running batch, after its KV has arrived.
    """

    at_s: float
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KvSent:
    """Prefill role: the last byte of KV is on the decode side. `Finished` follows at once."""

    at_s: float
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The request has left the engine. Reported exactly once for each request taken."""

    at_s: float
    request_id: str
    reason: FinishReason
    num_output_tokens: int
    """Tokens produced here; 1 for a prefill engine."""
    num_cached_tokens: int
    """Prompt tokens taken from the prefix cache when it was first scheduled."""
    num_retractions: int
    queue_s: float
    """From submission until it was first scheduled; all the time if it never was."""
    first_token_at_s: float | None
    """None if there was none."""


EngineEvent = KvAllocated | FirstToken | KvSent | Finished
