"""What one prefill step may take: computation, and memory that is left for the running ones."""

import math

from hfx_sgl.engine.kv_store import KvStore
from hfx_sgl.engine.spec import EngineSpec


class PrefillBudget:
    """Budget of one attempt to form a prefill step, as SGLang's prefill adder keeps it.

    Memory is only reserved here: it is allocated once the step is formed.
    """

    def __init__(
        self,
        spec: EngineSpec,
        store: KvStore,
        *,
        num_expected_tokens: float,
        num_mixed_tokens: int,
    ) -> None:
        self._store = store
        self._page_tokens = spec.page_tokens
        self._input_tokens = spec.max_prefill_tokens - num_mixed_tokens
        chunk_tokens = spec.chunked_prefill_tokens
        self.chunk_tokens = math.inf if chunk_tokens is None else chunk_tokens - num_mixed_tokens
        """Tokens that the step may still compute before a prompt is cut; inf: never."""
        self._expected_tokens = num_mixed_tokens + num_expected_tokens
        self._reserved_tokens = num_mixed_tokens

    @property
    def num_left_tokens(self) -> float:
        """Memory that no one is expected to need."""
        return self._store.num_available_tokens - self._expected_tokens

    @property
    def has_memory(self) -> bool:
        """Whether any is left."""
        return self.num_left_tokens > 0 and self._store.num_available_tokens > self._reserved_tokens

    @property
    def is_spent(self) -> bool:
        """Whether the step can compute no more."""
        return self._input_tokens <= 0 or self.chunk_tokens <= 0

    def may_compute(self, num_tokens: int) -> bool:
        """Whether an uncut prompt may come on top of what is in the step already."""
        return self.chunk_tokens != math.inf or num_tokens < self._input_tokens

    def take(self, num_tokens: int, max_new_tokens: int) -> None:
        """Charge a chunk, and what its sequence may produce; 0 if more chunks of it follow."""
        page = self._page_tokens
        paged_tokens = num_tokens + -num_tokens % page
        self._reserved_tokens += paged_tokens + page
        self._expected_tokens += paged_tokens + page + max_new_tokens
        self._input_tokens -= paged_tokens
        self.chunk_tokens -= paged_tokens

    def forget(self, num_expected_tokens: float) -> None:
        """Take back what a sequence was expected to need that has left the running batch."""
        self._expected_tokens -= num_expected_tokens
