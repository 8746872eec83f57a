"""Says whether a run may be used, and what a reader of it has to know."""

from dataclasses import dataclass

from hfx_sgl.loadtest.open_loop import OpenLoop
from hfx_sgl.loadtest.settings import LoadSettings
from hfx_sgl.results.latency import percentile

_MS_PER_S = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be said of a run beside its figures."""

    is_valid: bool
    problems: tuple[str, ...]
    p99_send_error_ms: float | None
    """None when nothing was sent."""


def judge(loop: OpenLoop, settings: LoadSettings) -> Verdict:
    """Judge a run that has ended.

    It is invalid when it sent nothing, or when the 99th percentile of how far requests were sent
    from their time exceeds the bound: then the client, not the server, was measured.
    """
    if not loop.send_errors_s:
        return Verdict(
            is_valid=False, problems=("the workload has no request",), p99_send_error_ms=None
        )
    problems = []
    if loop.num_held:
        problems.append(
            f"not open-loop: {loop.num_held} of {loop.num_sent} requests waited for others to end "
            f"(at most {settings.max_concurrency} at a time)"
        )
    error_ms = _MS_PER_S * percentile(sorted(loop.send_errors_s), 99)
    bound_ms = _MS_PER_S * settings.max_send_error_s
    is_valid = error_ms <= bound_ms
    if not is_valid:
        problems.append(
            f"p99 of the error in sending time is {error_ms:.1f} ms, over the bound of "
            f"{bound_ms:g} ms"
        )
    return Verdict(is_valid=is_valid, problems=tuple(problems), p99_send_error_ms=error_ms)
