"""Time of a prefill step from measured rows. Counts nothing; says what lies outside them."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from hfx_sgl.engine.step_times.curve import Curve
from hfx_sgl.engine.step_times.rows import Row
from hfx_sgl.engine.step_times.times import PrefillPart


class PrefillTable:
    """Interpolates rows of (num_prompts, new_tokens, prefix_tokens).

    One prompt of n new tokens behind a prefix of p tokens takes T(n, p): bilinear between the
    measured rows of one prompt.

    Several prompts that have N new tokens together take

        B(N, b) + sum over the prompts of n/N * (T(N, p) - T(N, 0)),  b = N^2 / (sum of n^2)

    - B comes from the rows of several prompts of equal length without a prefix. What does not
      attend costs the same for any split of N tokens, and attention costs in proportion to the
      sum of n^2. So for a given N the time is linear in 1/b, where b is the number of equal
      prompts with that sum: B interpolates in 1/b between the measured numbers of prompts.
    - Attending to a prefix costs in proportion to n * p, so each prompt has a share of n/N in what
      that prefix would add to a single prompt of N tokens.

    For one prompt this is T, and for as many equal prompts as were measured it is what was
    measured. The result is no less than the shortest measured step.
    """

    __slots__ = ("_by_inverse", "_by_prefix", "_floor_s", "_inverses", "_prefixes")

    def __init__(self, rows: Sequence[Row]) -> None:
        """Take rows that `check_prefill` has no complaint about, times in milliseconds."""
        by_prefix: dict[int, list[tuple[float, float]]] = {}
        by_number: dict[int, list[tuple[float, float]]] = {}
        for row in sorted(rows, key=lambda row: row.key):
            num_prompts, num_new, num_prefix = row.key
            latency_s = row.latency_ms / 1e3
            if num_prompts == 1:
                by_prefix.setdefault(num_prefix, []).append((num_new, latency_s))
            if num_prefix == 0:
                by_number.setdefault(num_prompts, []).append((num_prompts * num_new, latency_s))
        self._floor_s = min(row.latency_ms for row in rows) / 1e3
        self._prefixes = sorted(by_prefix)
        self._by_prefix = [Curve(by_prefix[prefix]) for prefix in self._prefixes]
        numbers = sorted(by_number, reverse=True)
        self._inverses = [1.0 / number for number in numbers]
        self._by_inverse = [Curve(by_number[number]) for number in numbers]

    def one_s(self, num_new: int, num_prefix: int) -> float:
        """Return T(num_new, num_prefix)."""
        prefixes = self._prefixes
        i = bisect_right(prefixes, num_prefix) - 1
        here = self._by_prefix[i].at(num_new)
        if prefixes[i] == num_prefix:
            return here
        if i + 1 < len(prefixes):
            after = self._by_prefix[i + 1].at(num_new)
            weight = (num_prefix - prefixes[i]) / (prefixes[i + 1] - prefixes[i])
            return here + (after - here) * weight
        if i == 0:
            return here
        before = self._by_prefix[i - 1].at(num_new)
        slope = max(0.0, (here - before) / (prefixes[i] - prefixes[i - 1]))
        return here + slope * (num_prefix - prefixes[i])

    def is_outside(self, num_new: int, num_prefix: int) -> bool:
        """Whether `one_s` extrapolates."""
        i = bisect_left(self._prefixes, num_prefix)
        return i == len(self._prefixes) or num_new > self._by_prefix[i].last_x

    def several_s(self, parts: Sequence[PrefillPart]) -> tuple[float, bool]:
        """Return the time of a step of any prompts, and whether it took extrapolation."""
        total = sum([part.num_new_tokens for part in parts])
        squares = sum([part.num_new_tokens * part.num_new_tokens for part in parts])
        time_s, is_outside = self._equal_s(total, squares / (total * total))
        plain_s = self._by_prefix[0].at(total)
        for num_new, num_prefix in parts:
            if num_prefix:
                time_s += num_new / total * (self.one_s(total, num_prefix) - plain_s)
                is_outside = is_outside or self.is_outside(total, num_prefix)
        return max(time_s, self._floor_s), is_outside

    def _equal_s(self, total: int, inverse: float) -> tuple[float, bool]:
        """Return B and whether it extrapolates; `inverse` is 1/b."""
        inverses = self._inverses
        i = bisect_left(inverses, inverse)
        above = self._by_inverse[i]
        if inverses[i] == inverse:
            return above.at(total), total > above.last_x
        if i == 0:  # more prompts than measured: on towards 1/b = 0, by less than one step
            if len(inverses) == 1:
                return above.at(total), True
            i = 1
            above = self._by_inverse[1]
            is_outside = True
        else:
            is_outside = total > min(above.last_x, self._by_inverse[i - 1].last_x)
        below_s, above_s = self._by_inverse[i - 1].at(total), above.at(total)
        weight = (inverse - inverses[i - 1]) / (inverses[i] - inverses[i - 1])
        return below_s + (above_s - below_s) * weight, is_outside
