"""The time that an emulated engine lives in: wall-clock time less the time it was held."""

from hfx_sgl.clock import Clock


class EngineClock:
    """Follows a clock, and stands still while it is held."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lost_s = 0.0
        self._held_at_s: float | None = None

    @property
    def is_held(self) -> bool:
        """Whether time stands still."""
        return self._held_at_s is not None

    def now_s(self) -> float:
        """Return the engine's instant."""
        if self._held_at_s is not None:
            return self._held_at_s
        return self._clock.now_s() - self._lost_s

    def hold(self) -> None:
        """Stop time; nothing happens when it stands still already."""
        self._held_at_s = self.now_s()

    def release(self) -> None:
        """Let time go on from where it stopped."""
        if self._held_at_s is not None:
            self._lost_s = self._clock.now_s() - self._held_at_s
            self._held_at_s = None
