import subprocess
import sys
from pathlib import Path

import pytest
from policy_comparison.cli import main

COMMAND = Path(__file__).resolve().parents[3] / "scripts" / "compare_policies"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rate", "0"], "rate_per_s"),
        (["--tight-ttft-s", "-1"], "tight_ttft_s"),
        (["--step-s", "-0.1"], "step_s"),
        (["--policies", "hfx,best"], "--policies"),
        (["--policies", "hfx,hfx"], "--policies"),
    ],
)
def test_bad_values_are_refused_before_anything_starts(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags) == 2
    assert message in capsys.readouterr().err


def test_help_needs_no_servers() -> None:
    done = subprocess.run(
        [sys.executable, str(COMMAND), "--help"], capture_output=True, text=True, check=True
    )
    assert "--policies" in done.stdout
