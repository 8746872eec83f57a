"""Why an engine does not take a request."""

from enum import StrEnum


class RefusalReason(StrEnum):
    """One value per rule, as a server would word it."""

    NOT_READY = "not_ready"
    """It is starting or changing its role."""
    TOO_LONG = "too_long"
    """Prompt and `max_new_tokens` exceed the context or the KV of the engine."""
    QUEUE_FULL = "queue_full"
    """`max_queued_requests` are waiting already."""
    DUPLICATE = "duplicate"
    """A request of this id is in the engine."""


class EngineRefusal(Exception):
    """The request was not taken; nothing about the engine has changed."""

    def __init__(self, reason: RefusalReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
