import math

import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.bounds import at_least, check, more_than, within


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (at_least("x", 1, 1), None),
        (at_least("x", 0, 1), "x: must be at least 1 (got 0)"),
        (at_least("x", math.nan, 0), "x: must be at least 0 (got nan)"),
        (at_least("x", math.inf, 0), "x: must be at least 0 (got inf)"),
        (more_than("x", 0.1, 0), None),
        (more_than("x", 0, 0), "x: must be more than 0 (got 0)"),
        (more_than("x", math.nan, 0), "x: must be more than 0 (got nan)"),
        (within("x", 0, 0, 1), None),
        (within("x", 1, 0, 1), None),
        (within("x", 1.5, 0, 1), "x: must be between 0 and 1 (got 1.5)"),
        (within("x", math.nan, 0, 1), "x: must be between 0 and 1 (got nan)"),
    ],
)
def test_problem_names_field_limit_and_value(problem: str | None, expected: str | None) -> None:
    assert problem == expected


def test_check_reports_every_problem_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        check("a: bad", None, "b: bad")
    assert caught.value.problems == ("a: bad", "b: bad")


def test_check_accepts_no_problem() -> None:
    check(None, None)
