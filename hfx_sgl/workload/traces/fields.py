"""Checks that all trace readers share; each reports what is wrong and returns None."""

from hfx_sgl.workload.traces.formats import Report


def positive_int(value: object, line: int, field: str, report: Report) -> int | None:
    """Return a length: a whole number of at least 1, also when it is spelled `12.0`."""
    number = finite_number(value, line, field, report)
    if number is None:
        return None
    if number != int(number) or number < 1:
        report(line, field, f"must be a whole number of at least 1 ({value})")
        return None
    return int(number)


def finite_number(value: object, line: int, field: str, report: Report) -> float | None:
    """Return a number that is neither infinite nor NaN."""
    if value is None or value == "":
        report(line, field, "is missing")
        return None
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = float("nan")
        if number - number == 0:
            return number
    report(line, field, f"must be a number ({str(value)[:40]!r})")
    return None


class Ascending:
    """Watches that timestamps never fall."""

    def __init__(self, field: str, report: Report) -> None:
        self._field = field
        self._report = report
        self._last: float | None = None

    def check(self, line: int, value: float) -> bool:
        """Return whether `value` is not before the last good one; report it otherwise."""
        if self._last is not None and value < self._last:
            self._report(line, self._field, "is earlier than in a row before; sort the trace")
            return False
        self._last = value
        return True
