"""What an engine counts, in the way a real server does, for `/v1/loads` and `/metrics`."""

from collections import deque
from copy import copy

from hfx_sgl.engine.sequence import Sequence
from hfx_sgl.engine.steps import Chunk, DecodeStretch, PrefillStep

US_PER_S = 1e6
BYTES_PER_GB = 2**30
"""What SGLang 0.5.23 takes for a gigabyte where it reports the speed of hand-offs."""
HIT_RATE_WINDOW_S = 15.0
"""`SGLANG_CACHE_HIT_RATE_WINDOW_SECONDS`."""
DECODE_LOG_INTERVAL = 40
"""`decode_log_interval`: decode steps between two values of the throughput."""
THROUGHPUT_STALE_S = 30.0
"""Without a new value for so long, the throughput reads 0."""


class GenThroughput:
    """Output tokens per second over the last full interval of decode steps."""

    def __init__(self, now_s: float) -> None:
        self._tokens_per_s = 0.0
        self._begun_at_s = now_s
        self._num_tokens = 0
        self._num_steps_left = DECODE_LOG_INTERVAL

    def observe(self, stretch: DecodeStretch, num_steps: int) -> None:
        """Account for the first steps of a stretch."""
        num_running = stretch.num_running
        if num_steps < self._num_steps_left:
            self._num_steps_left -= num_steps
            self._num_tokens += num_steps * num_running
            return
        num_more = (num_steps - self._num_steps_left) // DECODE_LOG_INTERVAL
        last = self._num_steps_left + num_more * DECODE_LOG_INTERVAL
        end_s = stretch.step_end_s(last)
        if num_more:
            begun_at_s = stretch.step_end_s(last - DECODE_LOG_INTERVAL)
            num_tokens = DECODE_LOG_INTERVAL * num_running
        else:
            begun_at_s = self._begun_at_s
            num_tokens = self._num_tokens + last * num_running
        self._tokens_per_s = num_tokens / (end_s - begun_at_s) if end_s > begun_at_s else 0.0
        self._begun_at_s = end_s
        self._num_tokens = (num_steps - last) * num_running
        self._num_steps_left = DECODE_LOG_INTERVAL - (num_steps - last)

    def at(self, now_s: float) -> float:
        """Return the last value, 0 once it is stale."""
        return self._tokens_per_s if now_s - self._begun_at_s <= THROUGHPUT_STALE_S else 0.0


class HitRate:
    """Which part of the prompts' tokens came from the prefix cache."""

    def __init__(self) -> None:
        self.last = 0.0
        """Of the last prefill step; sequences that were retracted are left out."""
        self._samples: deque[tuple[float, int, int]] = deque()
        self._num_hit = 0
        self._num_total = 0

    def observe(self, chunks: list[Chunk], now_s: float) -> None:
        """Account for a prefill step."""
        num_hit = num_total = 0
        for sequence, num_tokens, num_prefix_tokens, _ in chunks:
            if sequence.num_retractions:
                continue
            num_total += num_tokens
            if num_prefix_tokens and num_prefix_tokens == sequence.num_shared_tokens:
                # The first chunk; further ones follow what was computed, not what was cached.
                num_hit += num_prefix_tokens
                num_total += num_prefix_tokens
        self.last = num_hit / num_total if num_total else 0.0
        if num_total:
            self._samples.append((now_s, num_hit, num_total))
            self._num_hit += num_hit
            self._num_total += num_total
        self._forget(now_s)

    def recent(self, now_s: float) -> float:
        """Return the rate over a window before an instant."""
        self._forget(now_s)
        return self._num_hit / self._num_total if self._num_total else 0.0

    def _forget(self, now_s: float) -> None:
        samples = self._samples
        while samples and samples[0][0] <= now_s - HIT_RATE_WINDOW_S:
            _, num_hit, num_total = samples.popleft()
            self._num_hit -= num_hit
            self._num_total -= num_total


class Counters:
    """Sums since the start of the engine. A stretch of decode steps counts once it has ended."""

    def __init__(self, now_s: float) -> None:
        self.gen_throughput = GenThroughput(now_s)
        self.hit_rate = HitRate()
        self.num_prefill_tokens = 0
        self.prefill_busy_us = 0
        self.num_retractions = 0
        self.num_finished = 0
        self.num_prompt_tokens = 0
        self.num_cached_tokens = 0
        self.num_generated_tokens = 0
        self.transfer_gb_s = 0.0
        self.transfer_ms = 0.0
        self._num_decode_steps = 0
        self._sum_b = 0
        self._sum_t_us = 0.0
        self._sum_b2 = 0
        self._sum_bt_us = 0.0

    def prefill_ended(self, step: PrefillStep) -> None:
        """Account for a prefill step; one with running requests in it counts as one, too."""
        self.num_prefill_tokens += step.num_tokens
        self.prefill_busy_us += int((step.end_s - step.start_s) * US_PER_S)

    def decode_ended(self, stretch: DecodeStretch, num_steps: int) -> None:
        """Account for the first steps of a stretch."""
        if not num_steps:
            return
        busy_us = (stretch.step_end_s(num_steps) - stretch.start_s) * US_PER_S
        num_running = stretch.num_running
        self._num_decode_steps += num_steps
        self._sum_b += num_steps * num_running
        self._sum_t_us += busy_us
        self._sum_b2 += num_steps * num_running * num_running
        self._sum_bt_us += num_running * busy_us
        self.gen_throughput.observe(stretch, num_steps)

    def with_stretch(self, stretch: DecodeStretch) -> "Counters":
        """Return counters that include a stretch under way, as far as it has come."""
        counters = copy(self)
        counters.gen_throughput = copy(self.gen_throughput)
        counters.decode_ended(stretch, stretch.num_done)
        return counters

    def finished(self, sequence: Sequence) -> None:
        """Account for a sequence that has left."""
        self.num_finished += 1
        self.num_prompt_tokens += sequence.num_prompt_tokens
        self.num_cached_tokens += sequence.num_cached_tokens
        self.num_generated_tokens += sequence.num_outputs

    def sent(self, num_bytes: int, duration_s: float) -> None:
        """Remember how long the last hand-off took."""
        self.transfer_ms = duration_s * 1e3
        self.transfer_gb_s = num_bytes / BYTES_PER_GB / duration_s if duration_s > 0 else 0.0

    @property
    def decode_moments(self) -> tuple[float, ...]:
        """Sums over decode steps: n, b, t_us, b^2, b*t_us, generated tokens."""
        return (
            self._num_decode_steps,
            self._sum_b,
            self._sum_t_us,
            self._sum_b2,
            self._sum_bt_us,
            self._sum_b,
        )
