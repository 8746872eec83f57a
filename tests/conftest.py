"""Of all tests: which form of the code they test, and that a run can be repeated.

Property tests draw the same examples in every run of the same code. For others in each run:
`--hypothesis-profile exploring`.
"""

from pathlib import Path

import pytest
from compiling.modules import problems
from hypothesis import HealthCheck, settings

from hfx_sgl.code_form import code_form

ROOT = Path(__file__).parents[1]

# No limits of time for examples: a busy machine is no defect, and each test has its own.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", _PATIENT, derandomize=True)
settings.register_profile("exploring", _PATIENT, print_blob=True)
settings.load_profile("repeatable")


def pytest_configure() -> None:
    if found := problems(ROOT):
        raise pytest.UsageError(
            *found, "run scripts/compile to compile again, or scripts/compile --clean"
        )


def pytest_report_header() -> str:
    return f"hfx-sgl: {code_form()}"
