"""How far a load has come, and what became of each source, for people."""

from dataclasses import dataclass

from hfx_transfer.weights.source_state import SourceState


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadProgress:
    """A load at one moment."""

    num_bytes: int
    """Verified so far."""
    total_bytes: int
    num_sources: int
    """Pulled from at the moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """What became of one source."""

    url: str
    state: SourceState
    transport: str | None
    """Backend and what moved the bytes in truth; None when nothing was moved."""
    num_bytes: int
    """Verified bytes that came from it."""
    reason: str | None
    """Why it failed; None unless it did."""
    is_quarantined: bool = False
    """Whether bytes of it may still arrive in memory that is kept for that reason."""

    def __str__(self) -> str:
        what = f"{self.url}: {self.state}"
        if self.transport is not None:
            what += f", {self.num_bytes} bytes by {self.transport}"
        return what if self.reason is None else f"{what} ({self.reason})"


def bar(progress: LoadProgress, *, bytes_per_s: float, width: int = 24) -> str:
    """Return one line that shows how far a load is, without colour."""
    ratio = progress.num_bytes / progress.total_bytes if progress.total_bytes else 1.0
    filled = int(ratio * width)
    left_bytes = progress.total_bytes - progress.num_bytes
    left = f", {left_bytes / bytes_per_s:.0f} s left" if bytes_per_s > 0 and left_bytes else ""
    sources = f"{progress.num_sources} source{'' if progress.num_sources == 1 else 's'}"
    return (
        f"[{'#' * filled}{'.' * (width - filled)}] {ratio:4.0%} "
        f"{progress.num_bytes / 1e9:.2f}/{progress.total_bytes / 1e9:.2f} GB "
        f"{bytes_per_s / 1e9:.2f} GB/s, {sources}{left}"
    )
