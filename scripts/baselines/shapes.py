"""The clusters that are compared: four workers of the default profile, unified and separated."""

from dataclasses import dataclass

POLICIES = ("random", "round_robin", "power_of_two", "least_load", "cache_aware")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One cluster."""

    num_workers: int = 0
    num_prefill: int = 0
    num_decode: int = 0

    @property
    def flags(self) -> list[str]:
        """The flags by which simulator and emulator know it."""
        if self.num_workers:
            return ["--workers", str(self.num_workers)]
        return ["--prefill", str(self.num_prefill), "--decode", str(self.num_decode)]

    @property
    def label(self) -> str:
        """What results call it."""
        if self.num_workers:
            return str(self.num_workers)
        return f"{self.num_prefill}P+{self.num_decode}D"


SHAPES = (Shape(num_workers=4), Shape(num_prefill=2, num_decode=2))
