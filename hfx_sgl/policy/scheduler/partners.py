"""Which decode workers a prefill worker may hand over to, as the placement asks for it."""

from collections.abc import Mapping

from hfx_sgl.policy.pairs.view import PairView, has_partner
from hfx_sgl.policy.scheduler.pool import WorkerPool
from hfx_sgl.policy.scheduler.worker_state import WorkerState

NOBODY: frozenset[str] = frozenset()


class Partners:
    """Reads the pairs, and the workers that can be used. Asked only while a pair is barred."""

    def __init__(self, pairs: PairView, prefillers: WorkerPool, decoders: WorkerPool) -> None:
        self.pairs = pairs
        """Which pairs may not be chosen."""
        self._prefillers = prefillers
        self._decoders = decoders
        self._lonely_ids = NOBODY
        self._seen: tuple[Mapping[str, frozenset[str]], int] | None = None
        """What the lonely ones were found with."""

    def barred_for(self, prefiller: WorkerState) -> frozenset[str]:
        """Return the decode workers that this worker may not hand over to."""
        return self.pairs.barred.get(prefiller.worker_id, NOBODY)

    def lonely_ids(self) -> frozenset[str]:
        """Return the prefill workers that may hand over to no decode worker that can be used."""
        barred = self.pairs.barred
        # Bars are replaced, never changed.
        if self._seen is None or self._seen[0] is not barred or self._seen[1] != self._version:
            self._seen = barred, self._version
            usable_ids = [
                state.worker_id for state in self._decoders.states.values() if state.can_be_sent_to
            ]
            self._lonely_ids = frozenset(
                prefill_id
                for prefill_id in barred
                if prefill_id in self._prefillers.states
                and not has_partner(barred, prefill_id, usable_ids)
            )
        return self._lonely_ids

    @property
    def _version(self) -> int:
        return self._decoders.version + self._prefillers.version
