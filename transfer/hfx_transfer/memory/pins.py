"""Counts who may still touch a slab, and puts its release off until nobody does."""

import threading
from abc import ABC, abstractmethod


class PinnedSlab(ABC):
    """What all slabs share: size, device, pins and a `close` that waits for the last unpin."""

    def __init__(self, *, size_bytes: int, device: str) -> None:
        self._size_bytes = size_bytes
        self._device = device
        self._lock = threading.Lock()
        self._num_pins = 0
        self._closed = False

    @property
    @abstractmethod
    def address(self) -> int:
        """Where it begins, in this process."""

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return self._size_bytes

    @property
    def device(self) -> str:
        """What holds the bytes."""
        return self._device

    @property
    def shared_name(self) -> str | None:
        """None: only this process reaches it."""
        return None

    @property
    def num_pins(self) -> int:
        """How many transfers may still touch it."""
        return self._num_pins

    @abstractmethod
    def view(self) -> memoryview:
        """Return the bytes themselves, writable.

        Raises:
            ValueError: they are on a device that the CPU does not address, or were given back.
        """

    def pin(self) -> None:
        """Say that a transfer begins.

        Raises:
            ValueError: the slab was closed.
        """
        with self._lock:
            if self._closed:
                raise ValueError("the slab was closed")
            self._num_pins += 1

    def unpin(self) -> None:
        """Say that a transfer cannot touch it any more.

        Raises:
            ValueError: nothing was pinned.
        """
        with self._lock:
            if self._num_pins == 0:
                raise ValueError("the slab is not pinned")
            self._num_pins -= 1
            is_last = self._closed and self._num_pins == 0
        if is_last:
            self._release()

    def close(self) -> None:
        """Give the bytes back as soon as nothing is pinned; twice is once."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            is_last = self._num_pins == 0
        self._hide()
        if is_last:
            self._release()

    def _hide(self) -> None:
        """Keep newcomers away from a slab that was closed; it may still be pinned."""
        return None

    @abstractmethod
    def _release(self) -> None:
        """Drop the bytes; called once, when nothing is pinned any more."""
