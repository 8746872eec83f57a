"""Faults on purpose: what an emulated worker does wrong when told to. Decides, does no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from http import HTTPStatus
from typing import Any

from hfx_sgl.emulator.failures import ValueRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """Which faults are on. Rates are fractions of the inference requests."""

    latency_s: float = 0.0
    """Each inference request is looked at this much later."""
    error_rate: float = 0.0
    """These are answered with `error_status`."""
    error_status: int = HTTPStatus.INTERNAL_SERVER_ERROR.value
    reset_rate: float = 0.0
    """The connections of these are reset."""

    def __post_init__(self) -> None:
        problems = []
        if self.latency_s < 0:
            problems.append(f"latency_s must not be negative, got {self.latency_s}")
        problems += [
            f"{name} must be between 0 and 1, got {getattr(self, name)}"
            for name in ("error_rate", "reset_rate")
            if not 0 <= getattr(self, name) <= 1
        ]
        if not HTTPStatus.INTERNAL_SERVER_ERROR <= self.error_status <= 599:
            problems.append(f"error_status must be between 500 and 599, got {self.error_status}")
        if problems:
            raise ValueRefused("; ".join(problems))

    def changed(self, values: Mapping[str, Any]) -> "FaultPlan":
        """Return a plan with some fields changed.

        Raises:
            ValueRefused: a field is unknown, or a value is none.
        """
        kinds = {field.name: type(getattr(self, field.name)) for field in fields(self)}
        for name, value in values.items():
            kind = kinds.get(name)
            if kind is None:
                raise ValueRefused(f"{name}: no such fault; known are {', '.join(kinds)}")
            allowed = int if kind is int else int | float
            if isinstance(value, bool) or not isinstance(value, allowed):
                raise ValueRefused(f"{name} must be a number, not {value!r}")
        return replace(self, **values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to one request."""

    latency_s: float
    resets: bool
    error_status: int | None
    """None: no error."""


class Faults:
    """Deals faults to requests, evenly and always in the same order.

    A rate of 0.25 hits each fourth request, the fourth first.
    """

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan
        self._reset_debt = 0.0
        self._error_debt = 0.0

    def next(self) -> Fault:
        """Return what happens to the next request."""
        plan = self.plan
        self._reset_debt, resets = _owe(self._reset_debt, plan.reset_rate)
        self._error_debt, errs = _owe(self._error_debt, plan.error_rate)
        return Fault(
            latency_s=plan.latency_s,
            resets=resets,
            error_status=plan.error_status if errs else None,
        )


def _owe(debt: float, rate: float) -> tuple[float, bool]:
    """Add a rate to a debt; at a whole request one is due."""
    # Rounded: ten times 0.1 is less than 1.
    debt = round(debt + rate, 9)
    return (debt - 1, True) if debt >= 1 else (debt, False)
