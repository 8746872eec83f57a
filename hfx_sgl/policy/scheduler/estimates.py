"""What the latency models say about one request: times, with what is kept for surprises."""

from collections.abc import Mapping

from hfx_sgl.policy.latency.fit import LatencyFit
from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.hits import Hits
from hfx_sgl.policy.scheduler.pool import WorkerPool
from hfx_sgl.policy.scheduler.prefixes import CachedPrefixes
from hfx_sgl.policy.scheduler.worker_state import WorkerState

_MAX_RATIO = 1.5
"""A P90 beyond this says that a model is wrong, and not how much to keep for surprises."""
_REFRESH_S = 0.5
"""How old the models may be by which those that wait are judged."""
_MAX_LOOKUPS = 4
"""So many of those that wait are looked up again for one decision, the most urgent first."""


class Estimates:
    """Predicts for the scheduler, and keeps what was predicted for those that wait up to date."""

    def __init__(
        self,
        config: SchedulerConfig,
        models: LatencyModels,
        prefixes: CachedPrefixes,
        hits: Hits,
    ) -> None:
        self._config = config
        self.prefillers: Mapping[str, WorkerState] = {}
        """Who computes prompts, by id; the scheduler says so once it has them."""
        self._models = models
        """Of a prompt that nobody has anything of: those of the first worker."""
        self._prefixes = prefixes
        self._hits = hits
        self._version = 0
        self._num_observations = models.prefill.fit.num_observations
        self._refreshed_at_s = 0.0
        self._lookups_left = _MAX_LOOKUPS

    def refresh(self, now_s: float) -> bool:
        """A decision begins; return whether the models have learnt since what waits was judged."""
        self._lookups_left = _MAX_LOOKUPS
        if now_s - self._refreshed_at_s < _REFRESH_S:
            return False
        self._refreshed_at_s = now_s
        for state in self.prefillers.values():
            self._models = state.latency.models
            break
        num_observations = self._models.prefill.fit.num_observations
        if num_observations == self._num_observations:
            return False
        self._num_observations = num_observations
        self._version += 1
        return True

    @property
    def is_exhausted(self) -> bool:
        """Whether this decision may look nobody up any more, so that the next one has to."""
        return not self._lookups_left

    def look_up(self, entry: Entry) -> None:
        """Find out who has its prefix, and how long its prefill takes there."""
        if entry.grains:
            self._prefixes.look_up(entry)
        if entry.facts.known_hit_tokens:
            self._believe(entry, entry.facts.known_hit_tokens)
        self._predict(entry)

    def _believe(self, entry: Entry, known_tokens: Mapping[str, int]) -> None:
        """Take what workers said on its arrival that they have, where that is more.

        What was sent there since then is known from the own memory only.
        """
        most_tokens = entry.hit_tokens.get(entry.home_id or "", 0)
        for worker_id, num_tokens in known_tokens.items():
            num_hit_tokens = min(num_tokens, entry.facts.num_prompt_tokens - 1)
            if worker_id not in self.prefillers or num_hit_tokens <= 0:
                continue
            if num_hit_tokens > entry.hit_tokens.get(worker_id, 0):
                entry.hit_tokens[worker_id] = num_hit_tokens
                if num_hit_tokens > most_tokens:
                    entry.home_id, most_tokens = worker_id, num_hit_tokens

    def is_stale(self, entry: Entry) -> bool:
        """Whether somebody may have more or less of its prefix than when it was looked up."""
        return self._prefixes.is_stale(entry)

    def look_again(self, entry: Entry) -> None:
        """Do so again where something may have changed, as often as one decision allows."""
        # Without grains nothing can be found; to ask costs as much as all else here.
        if self._lookups_left and entry.grains and self._prefixes.is_stale(entry):
            self._lookups_left -= 1
            self.look_up(entry)
        elif entry.models_version != self._version:
            self._predict(entry)

    def look_at_last(self, entry: Entry) -> None:
        """Do so because it is about to be sent."""
        if self._prefixes.is_stale(entry):
            self.look_up(entry)

    def prefill_s(self, entry: Entry, worker_id: str) -> float:
        """Return how long its prefill will take there."""
        num_hit_tokens = entry.hit_tokens.get(worker_id, 0)
        return self.prefillers[worker_id].latency.prefill_s(
            entry.facts.num_prompt_tokens - num_hit_tokens, num_hit_tokens
        )

    def step_s(self, state: WorkerState, entry: Entry) -> float:
        """Return how long decode steps will take there with it."""
        return state.latency.decode_s(
            state.num_running + 1, state.context_tokens + entry.context_tokens
        )

    def least_step_s(self, pool: WorkerPool) -> float:
        """Return how long decode steps take where they are shortest; an idle worker's for none."""
        if not pool.ready.states:
            for state in pool.states.values():
                return state.latency.decode_s(1, 0)
            return self._models.decode.predict_s(1, 0)
        state = pool.ready.states[0]
        return state.latency.decode_s(state.num_running + 1, state.context_tokens)

    def spoils(self, state: WorkerState, entry: Entry) -> tuple[bool, bool]:
        """Return whether decoding it there would break promises: another's, and its own."""
        config = self._config
        ratio = 1.0 / config.tpot_margin
        if config.step_caution:
            fit = state.latency.models.decode.fit
            ratio = _cautious_ratio(fit, config.step_caution) / config.tpot_margin
        step_s = ratio * self.step_s(state, entry)
        if step_s <= state.tightest_tpot_s and step_s <= entry.tpot_s:
            return False, False
        before_s = ratio * state.latency.decode_s(state.num_running, state.context_tokens)
        return step_s > state.tightest_kept_tpot_s(before_s), step_s > entry.tpot_s

    def _predict(self, entry: Entry) -> None:
        entry.models_version = self._version
        num_tokens = entry.facts.num_prompt_tokens
        prefill = self._models.prefill
        service_s = prefill.predict_s(num_tokens, 0)
        entry.uncached_s = service_s
        entry.detour_s = 0.0
        if entry.home_id is not None and entry.home_id in self.prefillers:
            num_hit_tokens = entry.hit_tokens[entry.home_id]
            latency = self.prefillers[entry.home_id].latency
            home_s = latency.prefill_s(num_tokens - num_hit_tokens, num_hit_tokens)
            entry.detour_s, service_s = service_s - home_s, home_s
        if self._config.prefill_caution:
            service_s *= _cautious_ratio(prefill.fit, self._config.prefill_caution)
        entry.service_s = service_s
        self._hits.update(entry)


def _cautious_ratio(fit: LatencyFit, caution: float) -> float:
    if not fit.is_warm:
        return 1.0
    return 1.0 + caution * (min(max(fit.residual.p90_ratio, 1.0), _MAX_RATIO) - 1.0)
