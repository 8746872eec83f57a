"""Distributions as YAML spells them; `build` turns each into its pure form."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hfx_sgl.workload.synthetic.distributions import (
    Distribution,
    Fixed,
    LogNormal,
    Quantiles,
    Uniform,
)
from hfx_sgl.yaml_file import StrictModel

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
PositiveAmount = Annotated[float, Field(gt=0)]


class FixedConfig(StrictModel):
    """`{kind: fixed, value: 300}`."""

    kind: Literal["fixed"]
    value: Amount

    def build(self) -> Fixed:
        """Return the distribution."""
        return Fixed(self.value)


class UniformConfig(StrictModel):
    """`{kind: uniform, min: 500, max: 2000}`."""

    kind: Literal["uniform"]
    min: Amount
    max: Amount

    @model_validator(mode="after")
    def _check(self) -> "UniformConfig":
        if self.min > self.max:
            raise ValueError(f"min must not exceed max ({self.min:g} > {self.max:g})")
        return self

    def build(self) -> Uniform:
        """Return the distribution."""
        return Uniform(self.min, self.max)


class LogNormalConfig(StrictModel):
    """`{kind: lognormal, median: 200, p90: 600, min: 10, max: 2000}`, cut off at min and max."""

    kind: Literal["lognormal"]
    median: PositiveAmount
    p90: PositiveAmount
    min: Amount
    max: PositiveAmount

    @model_validator(mode="after")
    def _check(self) -> "LogNormalConfig":
        if not self.min <= self.median < self.p90 <= self.max:
            raise ValueError(
                f"must hold: min <= median < p90 <= max "
                f"({self.min:g}, {self.median:g}, {self.p90:g}, {self.max:g})"
            )
        return self

    def build(self) -> LogNormal:
        """Return the distribution."""
        return LogNormal(self.median, self.p90, self.min, self.max)


class QuantilesConfig(StrictModel):
    """`{kind: quantiles, points: [[0, 6], [0.5, 13], [1, 800]]}`: lines between (share, value)."""

    kind: Literal["quantiles"]
    points: tuple[tuple[Share, Amount], ...]

    @model_validator(mode="after")
    def _check(self) -> "QuantilesConfig":
        shares = [share for share, _ in self.points]
        values = [value for _, value in self.points]
        if not shares or shares[0] != 0 or shares[-1] != 1:
            raise ValueError("points must begin at share 0 and end at share 1")
        if any(left >= right for left, right in pairwise(shares)):
            raise ValueError("shares must rise from point to point")
        if any(left > right for left, right in pairwise(values)):
            raise ValueError("values must not fall from point to point")
        return self

    def build(self) -> Quantiles:
        """Return the distribution."""
        shares, values = zip(*self.points, strict=True)
        return Quantiles(shares, values)


DistributionConfig = Annotated[
    FixedConfig | UniformConfig | LogNormalConfig | QuantilesConfig, Field(discriminator="kind")
]


def build(config: FixedConfig | UniformConfig | LogNormalConfig | QuantilesConfig) -> Distribution:
    """Return the distribution that a config describes."""
    return config.build()
