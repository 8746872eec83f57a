"""One contiguous piece of memory that an engine can register, and who still writes to it."""

from typing import Protocol


class Slab(Protocol):
    """Contiguous bytes on one device. Its owner alone closes it.

    Whoever lets bytes move into or out of it pins it for that long. Native libraries cannot take
    a write back, so a pinned slab is never handed back, whatever went wrong: `close` leaves the
    bytes in place until the last pin is gone.
    """

    @property
    def address(self) -> int:
        """Where it begins, in this process."""
        ...

    @property
    def size_bytes(self) -> int:
        """Its length, above 0."""
        ...

    @property
    def device(self) -> str:
        """What holds the bytes: `cpu`, `cuda:0`, `npu:0`."""
        ...

    @property
    def shared_name(self) -> str | None:
        """The name under which other processes of this host map it; None when they cannot."""
        ...

    @property
    def num_pins(self) -> int:
        """How many transfers may still touch it."""
        ...

    def pin(self) -> None:
        """Say that a transfer begins."""
        ...

    def unpin(self) -> None:
        """Say that a transfer cannot touch it any more; as often as `pin`."""
        ...

    def view(self) -> memoryview:
        """Return the bytes themselves, writable.

        Raises:
            ValueError: they are on a device that the CPU does not address.
        """
        ...

    def close(self) -> None:
        """Give the bytes back as soon as nothing is pinned; twice is once."""
        ...
