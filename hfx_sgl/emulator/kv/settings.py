"""What is said about real KV, and the mover that does it."""

from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import entry_points

from hfx_sgl.emulator.kv.protocol import KvMover, OpenMover
from hfx_sgl.errors import ConfigError

ENTRY_POINT_GROUP = "hfx_sgl.kv_movers"
ENTRY_POINT = "paged"


class KvBackend(StrEnum):
    """The ways by which KV can move."""

    SOCKET = "socket"
    MOONCAKE = "mooncake"
    SHM = "shm"


@dataclass(frozen=True, slots=True, kw_only=True)
class RealKv:
    """How real bytes move between a prefill and a decode worker."""

    backend: KvBackend = KvBackend.SOCKET
    bytes_per_token: int = 4096
    """What is moved for each token of a prompt: a scale of the model's own, which would take
    tens of gigabytes for a pool of usual size. A multiple of 8."""
    pool_bytes: int = 1 << 30
    """Memory for KV in each worker; prompts wait for room in it."""
    token: str | None = field(default=None, repr=False)
    """What both sides must know; None on loopback only."""

    def problems(self, *, max_context_tokens: int, page_tokens: int) -> list[str]:
        """Return what is wrong for workers with such prompts."""
        if self.bytes_per_token < 1 or self.pool_bytes < 1:
            return ["kv_bytes_per_token, kv_pool_bytes: must be at least 1"]
        num_tokens = -(-max_context_tokens // page_tokens) * page_tokens
        needed_bytes = num_tokens * self.bytes_per_token
        if needed_bytes > self.pool_bytes:
            return [
                f"kv_pool_bytes: must hold one prompt of the longest kind, {needed_bytes} bytes "
                f"for {num_tokens} tokens ({self.pool_bytes}); lower --kv-bytes-per-token or "
                f"--context-length, or raise it"
            ]
        return []


def open_mover(settings: RealKv, *, host: str, page_tokens: int) -> KvMover:
    """Start the mover of one worker.

    Raises:
        ConfigError: no package here moves KV, or a value is out of range.
        TransferError: the backend cannot run here.
    """
    found = entry_points(group=ENTRY_POINT_GROUP, name=ENTRY_POINT)
    if not found:
        raise ConfigError("kv: real bytes need the package hfx_transfer, which is not installed")
    start: OpenMover = next(iter(found)).load()
    return start(
        backend=settings.backend.value,
        host=host,
        token=settings.token,
        bytes_per_token=settings.bytes_per_token,
        page_tokens=page_tokens,
        pool_bytes=settings.pool_bytes,
    )
