"""What a decision may see of pairs. Deciders only read it, but for `taken`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, TypeVar

from hfx_sgl.policy.view import WorkerView

WorkerT = TypeVar("WorkerT", bound=WorkerView)

_NOBODY: frozenset[str] = frozenset()


class PairView(Protocol):
    """Which pairs may not be chosen."""

    @property
    def barred(self) -> Mapping[str, frozenset[str]]:
        """By prefill worker: decode workers that it may not hand over to. Empty where all may, so
        that a decision asks no further. Replaced, never changed."""
        ...

    @property
    def has_due(self) -> bool:
        """Whether some pair waits for its trial; only then `taken` needs to be told."""
        ...

    def taken(self, prefill_id: str, decode_id: str, now_s: float) -> None:
        """A request is sent to this pair."""
        ...


class _AllPairs:
    barred: Mapping[str, frozenset[str]] = {}
    has_due = False

    def taken(self, prefill_id: str, decode_id: str, now_s: float) -> None:
        """Nothing is watched."""


ALL_PAIRS: PairView = _AllPairs()
"""Any prefill worker may hand over to any decode worker."""


def with_partner(
    view: PairView, prefills: Sequence[WorkerT], decodes: Sequence[WorkerT]
) -> tuple[WorkerT, ...]:
    """Return the prefill workers that may hand over to at least one of the decode workers."""
    decode_ids = {decode.worker_id for decode in decodes}
    barred = view.barred
    return tuple(
        prefill for prefill in prefills if has_partner(barred, prefill.worker_id, decode_ids)
    )


def has_partner(
    barred: Mapping[str, frozenset[str]], prefill_id: str, decode_ids: Collection[str]
) -> bool:
    """Return whether this prefill worker may hand over to one of the decode workers."""
    not_here = barred.get(prefill_id, _NOBODY)
    return any(decode_id not in not_here for decode_id in decode_ids)


def partners(view: PairView, prefill: WorkerT, decodes: Sequence[WorkerT]) -> tuple[WorkerT, ...]:
    """Return the decode workers that this prefill worker may hand over to."""
    not_here = view.barred.get(prefill.worker_id, _NOBODY)
    return tuple(decode for decode in decodes if decode.worker_id not in not_here)
