"""The outcome of one request, as load test and simulator write it, one JSON object per line."""

from enum import StrEnum
from typing import Annotated

import msgspec


class Status(StrEnum):
    """How a request ended. Whatever is not `ok` is a miss."""

    OK = "ok"
    REJECTED = "rejected"
    """Turned away: 429 or 503."""
    FAILED = "failed"
    """Any other error, before or in the answer."""
    TIMED_OUT = "timed_out"
    """The client gave up."""


Seconds = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class RequestRecord(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One request. Field names are the keys of the result file; None means that it never came.

    Instants are seconds since the start of the run. Durations count from `sent_at_s`.
    """

    request_id: str
    class_name: str
    scheduled_at_s: Seconds
    sent_at_s: Seconds
    status: Status
    prompt_tokens: Count
    output_tokens: Count = 0
    """Tokens that arrived."""
    ttft_s: Seconds | None = None
    tpot_s: Seconds | None = None
    """Mean over the tokens after the first; None with fewer than two."""
    e2e_s: Seconds | None = None
    ttft_slo_s: Seconds | None = None
    """None: nothing was promised. The same holds for the two bounds below."""
    tpot_slo_s: Seconds | None = None
    e2e_slo_s: Seconds | None = None
    cached_tokens: Count = 0
    """Prompt tokens that the engine found in its prefix cache."""
    num_retractions: Count = 0
    """How often the engine took the request off its batch for want of KV room."""
    prefill_worker: str | None = None
    """The prefill worker, with PD disaggregation."""
    worker: str | None = None
    """The worker that answered: a decode worker with PD disaggregation."""
    error: str | None = None
    itls_s: tuple[Seconds, ...] | None = None
    """Times between arrivals of output after the first; only when asked for."""

    @property
    def is_attained(self) -> bool:
        """Whether it completed and kept every promise."""
        return (
            self.status is Status.OK
            and _kept(self.ttft_s, self.ttft_slo_s)
            and (self.tpot_s is None or _kept(self.tpot_s, self.tpot_slo_s))
            and _kept(self.e2e_s, self.e2e_slo_s)
        )


def _kept(duration_s: float | None, bound_s: float | None) -> bool:
    """Return whether a bound was kept; a duration that never came keeps none."""
    return bound_s is None or (duration_s is not None and duration_s <= bound_s)
