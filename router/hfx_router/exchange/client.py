"""What an exchange needs of the connection that waits for its answer."""

from collections.abc import Callable
from typing import Protocol


class Client(Protocol):
    """The connection that waits for the answer."""

    def write(self, data: bytes) -> None:
        """Send bytes of the answer."""
        ...

    def write_through(self) -> Callable[[bytes], None]:
        """Return what sends bytes by the shortest way, for as long as the connection is open."""
        ...

    def finished(self, *, keep_alive: bool) -> None:
        """The answer is complete."""
        ...

    def break_off(self) -> None:
        """Close at once: the answer cannot be completed and must not look complete."""
        ...
