"""Simulation against emulation, request for request the same trace."""

from collections.abc import Sequence
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

    simulated: Run
    emulated: Run

    @property
    def ttft_error(self) -> float:
        """Median TTFT of the simulation relative to the emulation's, less 1."""
        return _relative(
            self.simulated.summary.overall.median_ttft_ms,
            self.emulated.summary.overall.median_ttft_ms,
        )

    @property
    def tpot_error(self) -> float:
        """The same for TPOT."""
        return _relative(
            self.simulated.summary.overall.median_tpot_ms,
            self.emulated.summary.overall.median_tpot_ms,
        )

    @property
    def attainment_error(self) -> float:
        """Attainment of the simulation less that of the emulation."""
        return _attainment(self.simulated) - _attainment(self.emulated)

    @property
    def is_within(self) -> bool:
        """Whether all three are within their bounds, and the emulated run is valid."""
        return (
            abs(self.ttft_error) <= MEDIAN_BOUND
            and abs(self.tpot_error) <= MEDIAN_BOUND
            and abs(self.attainment_error) <= ATTAINMENT_BOUND
            and self.emulated.info.is_valid
        )


def read_agreement(simulated: Path, emulated: Path) -> Agreement:
    """Return both runs of one point."""
    return Agreement(simulated=read_run(simulated), emulated=read_run(emulated))


def agreement_table(agreements: Sequence[Agreement]) -> str:
    """Return the Markdown table: one line for each point."""
    header = [
        "cluster, policy, load", "requests", "TTFT p50 ms sim / emu", "off by",
        "TPOT p50 ms sim / emu", "off by", "attained % sim / emu", "points", "within",
    ]  # fmt: skip
    return markdown_table(header, [_row(agreement) for agreement in agreements])


def _row(agreement: Agreement) -> list[str]:
    info = agreement.emulated.info
    simulated = agreement.simulated.summary.overall
    emulated = agreement.emulated.summary.overall
    return [
        f"{info.cluster}, {info.policy}, {info.load_factor:g}x",
        str(emulated.num_requests),
        f"{simulated.median_ttft_ms:.1f} / {emulated.median_ttft_ms:.1f}",
        f"{agreement.ttft_error:+.1%}",
        f"{simulated.median_tpot_ms:.2f} / {emulated.median_tpot_ms:.2f}",
        f"{agreement.tpot_error:+.1%}",
        f"{_attainment(agreement.simulated):.1%} / {_attainment(agreement.emulated):.1%}",
        f"{agreement.attainment_error * 100:+.1f}",
        ("yes" if agreement.is_within else "**no**")
        + ("" if info.is_valid else " (run not valid)"),
    ]


def _relative(simulated_ms: float | None, emulated_ms: float | None) -> float:
    if simulated_ms is None or emulated_ms is None:
        raise ValueError("a run without a completed request cannot be compared")
    return simulated_ms / emulated_ms - 1


def _attainment(run: Run) -> float:
    return run.summary.overall.slo_attainment or 0.0
