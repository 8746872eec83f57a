"""What a request is told for which there is no pair of workers."""

from hfx_router.workers.registry import Registry
from hfx_sgl.errors import UnavailableError
from hfx_sgl.policy.pairs.book import PairBook
from hfx_sgl.types import Role

RETRY_AFTER_S = 1.0
"""Where nothing tells when to come back: a worker that returns is noticed within about a second."""


def no_pair(pairs: PairBook, registry: Registry, now_s: float) -> UnavailableError:
    """Return the error of a request that no usable prefill worker could hand over."""
    problems = [
        (prefill.shown_url, decode.shown_url, problem)
        for prefill in registry.usable(Role.PREFILL)
        for decode in registry.usable(Role.DECODE)
        if (problem := pairs.problem(prefill.worker_id, decode.worker_id)) is not None
    ]
    message = "no prefill worker may hand over to a decode worker"
    if problems:
        prefill_url, decode_url, problem = problems[0]
        message += f"; {prefill_url} to {decode_url}: {problem}"
    if len(problems) > 1:
        message += f" (and {len(problems) - 1} more at /debug/pairs)"
    retry_after_s = pairs.retry_after_s(now_s)
    return UnavailableError(
        message,
        code="no_usable_pair",
        retry_after_s=RETRY_AFTER_S if retry_after_s is None else max(retry_after_s, RETRY_AFTER_S),
    )
