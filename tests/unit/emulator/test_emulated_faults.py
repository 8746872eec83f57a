from typing import Any

import pytest

from hfx_sgl.emulator.failures import ValueRefused
from hfx_sgl.emulator.faults import FaultPlan, Faults


@pytest.mark.parametrize(
    ("rate", "hit"),
    [(0.0, []), (1.0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), (0.5, [1, 3, 5, 7, 9]), (0.1, [9])],
)
def test_rates_hit_evenly(rate: float, hit: list[int]) -> None:
    errors = Faults(FaultPlan(error_rate=rate, error_status=503))
    assert [at for at in range(10) if errors.next().error_status == 503] == hit
    resets = Faults(FaultPlan(reset_rate=rate))
    assert [at for at in range(10) if resets.next().resets] == hit


def test_no_fault_unless_asked_for() -> None:
    fault = Faults(FaultPlan()).next()
    assert (fault.latency_s, fault.resets, fault.error_status) == (0.0, False, None)


def test_a_change_leaves_the_rest() -> None:
    plan = FaultPlan(latency_s=0.5).changed({"error_rate": 0.25})
    assert plan == FaultPlan(latency_s=0.5, error_rate=0.25)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"latency_s": -1}, "latency_s"),
        ({"error_rate": 1.1}, "error_rate"),
        ({"reset_rate": -0.1}, "reset_rate"),
        ({"error_status": 404}, "error_status"),
        ({"error_status": 500.5}, "error_status"),
        ({"latency_s": "1"}, "latency_s"),
        ({"latency_s": True}, "latency_s"),
        ({"lateness": 1}, "lateness"),
    ],
)
def test_bad_plans_are_refused_by_name(values: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueRefused, match=word):
        FaultPlan().changed(values)
