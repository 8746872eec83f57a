"""Some loads on emulated workers behind the real router, and the same requests by simulation."""

import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from baselines.agreement import Agreement, agreement_table, read_agreement
from baselines.emulated import LoadPoint, run_emulated
from baselines.shapes import Shape
from baselines.simulated import NUM_VARIANTS, run_simulated

EMULATED_FOLDER = "emulated"
_SAME_FOLDER = "same-requests"


def load_points(
    shapes: Sequence[Shape],
    policies: Sequence[str],
    load_factors: Sequence[float],
    *,
    seed: int,
    duration_s: float,
    profile: str,
) -> list[LoadPoint]:
    """Return the product, the policies of one load side by side in time."""
    return [
        LoadPoint(
            shape=shape,
            policy=policy,
            load_factor=load_factor,
            seed=seed,
            duration_s=duration_s,
            profile=profile,
        )
        for shape, load_factor, policy in product(shapes, load_factors, policies)
    ]


def run_points(points: Sequence[LoadPoint], runs: Path, *, base_port: int) -> list[Agreement]:
    """Run the points that are not there yet; returns how each agrees with the simulation.

    Raises:
        LaunchError: a cluster did not start, or a load test could not be carried out.
    """
    agreements = []
    for number, point in enumerate(points, start=1):
        print(f"emulated: {number} of {len(points)}, {point.name}", file=sys.stderr)
        emulated = runs / EMULATED_FOLDER / point.name
        if not (emulated / "run.json").exists():
            run_emulated(point, emulated, base_port=base_port)
        simulated = run_simulated(point, runs / _SAME_FOLDER / point.name)
        agreements.append(read_agreement(simulated, emulated))
        print(agreement_table(agreements[-1:]).splitlines()[-1], file=sys.stderr)
    return agreements


def agreement_page(agreements: Sequence[Agreement], duration_s: float) -> str:
    """Return the page that lays both side by side."""
    return (
        "# The scheduler, simulated and emulated\n\n"
        f"The same {duration_s:g} s of requests by both, one emulated run each, through the real "
        f"router. Each point was simulated {NUM_VARIANTS} times, with other draws of the policy "
        "and network times between 0.7 and 1.3 of the usual; the range is shown, and how far "
        "outside of it the emulated run lies. "
        f"Version {agreements[0].emulated.info.version}.\n\n{agreement_table(agreements)}"
    )
