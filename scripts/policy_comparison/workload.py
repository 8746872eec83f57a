"""Two classes of requests, together more than the prefill workers can compute in time."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from hfx_sgl.policy.bounds import check, more_than, within
from hfx_sgl.prompt import Prompt
from hfx_sgl.slo import Slo
from hfx_sgl.workload.planned import PlannedRequest

TIGHT, RELAXED = "tight", "relaxed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoClasses:
    """Requests of both classes come at random, at one rate; no two prompts begin alike."""

    rate_per_s: float = 16.0
    duration_s: float = 10.0
    tight_share: float = 0.5
    tight_ttft_s: float = 2.0
    relaxed_ttft_s: float = 60.0
    tight_words: int = 100
    relaxed_words: int = 400
    num_output_tokens: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        check(
            more_than("rate_per_s", self.rate_per_s, 0),
            more_than("duration_s", self.duration_s, 0),
            within("tight_share", self.tight_share, 0, 1),
            more_than("tight_ttft_s", self.tight_ttft_s, 0),
            more_than("relaxed_ttft_s", self.relaxed_ttft_s, 0),
        )

    def requests(self) -> Iterator[PlannedRequest]:
        """Yield the requests in order of arrival; each call yields the same."""
        rng = random.Random(self.seed)
        at_s, index = rng.expovariate(self.rate_per_s), 0
        while at_s < self.duration_s:
            yield self._request(index, at_s, is_tight=rng.random() < self.tight_share)
            at_s += rng.expovariate(self.rate_per_s)
            index += 1

    def _request(self, index: int, at_s: float, *, is_tight: bool) -> PlannedRequest:
        num_words = self.tight_words if is_tight else self.relaxed_words
        return PlannedRequest(
            request_id=f"r{index}",
            class_name=TIGHT if is_tight else RELAXED,
            at_s=at_s,
            prompt=Prompt((self.seed * 1_000_003 + index,), (num_words,)),
            num_output_tokens=self.num_output_tokens,
            max_output_tokens=self.num_output_tokens,
            slo=Slo(ttft_s=self.tight_ttft_s if is_tight else self.relaxed_ttft_s),
        )
