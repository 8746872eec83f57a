"""Simulation against emulation, request for request the same trace."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hfx_sgl.report.tables import markdown_table
from hfx_sgl.results.reader import Run, read_run

MEDIAN_BOUND = 0.10
"""How far medians of TTFT and TPOT may be apart, as a share of the emulated one."""
ATTAINMENT_BOUND = 0.03
"""How far attainment may be apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One point by both."""

    simulated: tuple[Run, ...]
    """Variants that differ in what should not matter."""
    emulated: Run

    @property
    def ttft_error(self) -> float:
        """How far the emulation's median TTFT lies outside the simulated range, relative to it."""
        return self._distance(_median_ttft_ms) / _median_ttft_ms(self.emulated)

    @property
    def tpot_error(self) -> float:
        """The same for TPOT."""
        return self._distance(_median_tpot_ms) / _median_tpot_ms(self.emulated)

    @property
    def attainment_error(self) -> float:
        """How far the emulation's attainment lies outside the simulated range."""
        return self._distance(_attainment)

    @property
    def is_within(self) -> bool:
        """Whether all three are within their bounds, and the emulated run is valid."""
        return (
            abs(self.ttft_error) <= MEDIAN_BOUND
            and abs(self.tpot_error) <= MEDIAN_BOUND
            and abs(self.attainment_error) <= ATTAINMENT_BOUND
            and self.emulated.info.is_valid
        )

    def _distance(self, figure: Callable[[Run], float]) -> float:
        """Return the nearest simulated value less the emulated one; 0 inside the range."""
        low, high = self.range_of(figure)
        emulated = figure(self.emulated)
        return min(max(emulated, low), high) - emulated

    def range_of(self, figure: Callable[[Run], float]) -> tuple[float, float]:
        """Return the lowest and the highest simulated value."""
        values = [figure(run) for run in self.simulated]
        return min(values), max(values)


def read_agreement(simulated: Sequence[Path], emulated: Path) -> Agreement:
    """Return the runs of one point."""
    return Agreement(simulated=tuple(map(read_run, simulated)), emulated=read_run(emulated))


def agreement_table(agreements: Sequence[Agreement]) -> str:
    """Return the Markdown table: one line for each point."""
    header = [
        "cluster, policy, load", "requests", "TTFT p50 ms sim / emu", "off by",
        "TPOT p50 ms sim / emu", "off by", "attained % sim / emu", "points", "within",
    ]  # fmt: skip
    return markdown_table(header, [_row(agreement) for agreement in agreements])


def _row(agreement: Agreement) -> list[str]:
    info = agreement.emulated.info
    return [
        f"{info.cluster}, {info.policy}, {info.load_factor:g}x",
        str(agreement.emulated.summary.overall.num_requests),
        _pair(agreement, _median_ttft_ms, ".1f"),
        f"{agreement.ttft_error:+.1%}",
        _pair(agreement, _median_tpot_ms, ".2f"),
        f"{agreement.tpot_error:+.1%}",
        _pair(agreement, lambda run: 100 * _attainment(run), ".1f"),
        f"{agreement.attainment_error * 100:+.1f}",
        ("yes" if agreement.is_within else "**no**")
        + ("" if info.is_valid else " (run not valid)"),
    ]


def _pair(agreement: Agreement, figure: Callable[[Run], float], form: str) -> str:
    low, high = (format(value, form) for value in agreement.range_of(figure))
    simulated = low if low == high else f"{low}-{high}"
    return f"{simulated} / {format(figure(agreement.emulated), form)}"


def _median_ttft_ms(run: Run) -> float:
    return _measured(run, run.summary.overall.median_ttft_ms)


def _median_tpot_ms(run: Run) -> float:
    return _measured(run, run.summary.overall.median_tpot_ms)


def _attainment(run: Run) -> float:
    return _measured(run, run.summary.overall.slo_attainment)


def _measured(run: Run, value: float | None) -> float:
    if value is None:
        raise ValueError(f"{run.path}: nothing to compare, no request was completed")
    return value
