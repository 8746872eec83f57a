"""What an emulated worker asks of a mover of KV."""

from collections.abc import Callable
from typing import Protocol

OnEnd = Callable[[str | None], None]
"""Told once how one side's part ended: None for well, else what was wrong."""


class Expected(Protocol):
    """The receiving side of one prompt's KV."""

    def cancel(self) -> None:
        """Nobody waits for the KV, or needs it any more: free its memory. Twice is once."""
        ...


class Sending(Protocol):
    """The sending side of one prompt's KV."""

    def push(self) -> None:
        """The prompt is computed: send its KV."""
        ...

    def cancel(self) -> None:
        """Nobody is to have it; nothing happens when somebody has. Twice is once."""
        ...


class KvMover(Protocol):
    """Moves the KV of one worker. No call blocks but `close`; callbacks come from any thread."""

    def expect(
        self, num_tokens: int, *, on_offer: Callable[[str], None], on_end: OnEnd
    ) -> Expected:
        """Find memory for a prompt's KV, then wait for it.

        Args:
            num_tokens: of the prompt.
            on_offer: told what the sending side needs to know, once there is memory.
            on_end: told when all bytes are here and verified, or that they do not come.
        """
        ...

    def send(self, offer: str, num_tokens: int, *, on_end: OnEnd) -> Sending:
        """Prepare to send a prompt's KV.

        Args:
            offer: of the receiving side.
            num_tokens: of the prompt.
            on_end: told when the other side has verified all bytes, or that it does not get them.
        """
        ...

    def metrics(self) -> bytes:
        """Return what was moved, as Prometheus text; of families that no worker has."""
        ...

    def close(self) -> None:
        """Give up what is not finished, and free everything."""
        ...


class OpenMover(Protocol):
    """Starts a mover; what an entry point of group `hfx_sgl.kv_movers` names."""

    def __call__(
        self,
        *,
        backend: str,
        host: str,
        token: str | None,
        bytes_per_token: int,
        page_tokens: int,
        pool_bytes: int,
    ) -> KvMover:
        """Return a mover.

        Raises:
            ConfigError: a value is out of range.
            TransferError: the backend cannot run here.
        """
        ...
