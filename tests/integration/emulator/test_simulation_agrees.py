"""Simulation and emulated cluster on the same requests: the same latencies, the same attainment.

Real processes in real time, so a few tens of seconds each; `scripts/run_baselines` is the full
table. A run that says itself that the machine was too busy to send in time is repeated.
"""

from pathlib import Path

import pytest
from baselines.agreement import agreement_table, read_agreement
from baselines.emulated import LoadPoint, run_emulated
from baselines.shapes import Shape
from baselines.simulated import run_simulated

UNIFIED = Shape(num_workers=4)
PAIRS = Shape(num_prefill=2, num_decode=2)
MAX_ATTEMPTS = 3
BASE_PORT = 30_000


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("shape", "load_factor"),
    [(UNIFIED, 1.0), (UNIFIED, 3.0), (PAIRS, 1.0), (PAIRS, 2.5)],
    ids=lambda value: getattr(value, "label", f"{value}x"),
)
def test_simulation_and_emulation_agree(shape: Shape, load_factor: float, tmp_path: Path) -> None:
    point = LoadPoint(
        shape=shape,
        policy="round_robin",
        load_factor=load_factor,
        seed=1,
        duration_s=20.0,
        profile="qwen25-32b_h100_tp2",  # steps so long that the machine's own noise is small
    )
    for attempt in range(MAX_ATTEMPTS):
        emulated = tmp_path / f"emulated-{attempt}"
        if run_emulated(point, emulated, base_port=BASE_PORT):
            break
    else:
        pytest.fail(f"{MAX_ATTEMPTS} load tests could not send in time: the machine is too busy")
    agreement = read_agreement(run_simulated(point, tmp_path / "simulated"), emulated)
    assert agreement.is_within, agreement_table([agreement])
