"""Of all tests: which form of the code they test, and that it is what the sources say."""

from pathlib import Path

import pytest
from compiling.modules import problems

from hfx_sgl.code_form import code_form

ROOT = Path(__file__).parents[1]


def pytest_configure() -> None:
    if found := problems(ROOT):
        raise pytest.UsageError(
            *found, "run scripts/compile to compile again, or scripts/compile --clean"
        )


def pytest_report_header() -> str:
    return f"hfx-sgl: {code_form()}"
