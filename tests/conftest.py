"""Of all tests: which form of the code they test, and that a run can be repeated.

Property tests draw the same examples in every run of the same code. For others in each run:
`--hypothesis-profile exploring`.
"""

from pathlib import Path

import pytest
from compiling.modules import problems
from hypothesis import settings

from hfx_sgl.code_form import code_form

ROOT = Path(__file__).parents[1]

# No deadline for one example: a busy machine is no defect, and each test has a time limit.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("exploring", deadline=None, print_blob=True)
settings.load_profile("repeatable")


def pytest_configure() -> None:
    if found := problems(ROOT):
        raise pytest.UsageError(
            *found, "run scripts/compile to compile again, or scripts/compile --clean"
        )


def pytest_report_header() -> str:
    return f"hfx-sgl: {code_form()}"
