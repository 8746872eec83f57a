"""Limits how fast a process reads from one disk, by a cgroup of its own (blkio v1, io v2)."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Self

_ROOT = Path("/sys/fs/cgroup")


class ThrottleError(Exception):
    """The system does not let us limit a disk."""


class DiskThrottle:
    """A cgroup whose members read the disk of `path` at most at `bytes_per_s`, together.

    Raises:
        ThrottleError: no such controller, or no permission.
    """

    def __init__(self, path: Path, bytes_per_s: int) -> None:
        device = disk_of(path)
        self._is_v2 = (_ROOT / "cgroup.controllers").exists()
        parent = _ROOT if self._is_v2 else _ROOT / "blkio"
        self._home = parent / "cgroup.procs"
        self._group = parent / f"hfx-bench-{os.getpid()}-{bytes_per_s}"
        try:
            if self._is_v2:
                (_ROOT / "cgroup.subtree_control").write_text("+io")
            self._group.mkdir()
            name, rule = (
                ("io.max", f"{device} rbps={bytes_per_s}")
                if self._is_v2
                else ("blkio.throttle.read_bps_device", f"{device} {bytes_per_s}")
            )
            (self._group / name).write_text(rule)
        except OSError as exc:
            self.close()
            raise ThrottleError(f"cannot limit the disk {device}: {exc}") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, pid: int) -> None:
        """Limit a process, all its threads included."""
        (self._group / "cgroup.procs").write_text(str(pid))

    def release(self, pid: int) -> None:
        """Limit it no more, if it is still there; it goes to the root group of the hierarchy."""
        with suppress(ProcessLookupError):
            self._home.write_text(str(pid))

    def close(self) -> None:
        """Remove the group; whoever is in it must have been released or have ended."""
        if self._group.exists():
            self._group.rmdir()


def disk_of(path: Path) -> str:
    """Return the `major:minor` of the whole disk that holds a file; limits know no partitions.

    Raises:
        ThrottleError: the file is on none, as on tmpfs or overlayfs.
    """
    number = path.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    entry = Path("/sys/dev/block", device)
    if not entry.exists():
        raise ThrottleError(f"{path} is on no block device")
    if (entry / "partition").exists():
        return (entry.resolve().parent / "dev").read_text().strip()
    return device
