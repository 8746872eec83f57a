"""Keeps the latency models of all classes in a file, beside the event loop."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from hfx_router.scheduling.profile_file import (
    DamagedProfileError,
    read_profile,
    set_aside,
    write_profile,
)
from hfx_sgl.policy.latency import LatencySnapshot

_log = structlog.get_logger(__name__)

SAVE_INTERVAL_S = 60.0
"""A crash loses this much of what was learnt; coefficients hardly change in a minute."""


def load_profile(path: Path) -> dict[str, LatencySnapshot]:
    """Return the models that were saved, by class key; none, with a warning, if they are unusable.

    A damaged file is renamed to end in `.bad`. Reads the disk: to be called at start.
    """
    try:
        classes = read_profile(path)
    except OSError as exc:
        _log.warning("latency_profile_unreadable", path=str(path), reason=str(exc))
        return {}
    except DamagedProfileError as exc:
        _ignore(path, str(exc))
        return {}
    _log.info("latency_profile_loaded", path=str(path), num_classes=len(classes))
    return classes


def _ignore(path: Path, reason: str) -> None:
    try:
        aside = str(set_aside(path))
    except OSError:
        aside = "could not be renamed"
    _log.warning("latency_profile_ignored", path=str(path), reason=reason, renamed_to=aside)


class ProfileStore:
    """Saves what has changed, every minute and at the end.

    Args:
        path: the file; its folder exists.
        snapshots: what is to be saved, by class key; called on the event loop.
        interval_s: the least time between two writes.
    """

    def __init__(
        self,
        path: Path,
        snapshots: Callable[[], Mapping[str, LatencySnapshot]],
        *,
        interval_s: float = SAVE_INTERVAL_S,
    ) -> None:
        self._path = path
        self._snapshots = snapshots
        self._interval_s = interval_s
        self._saved: Mapping[str, LatencySnapshot] = {}
        self._stops = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._has_failed = False

    def start(self) -> None:
        """Begin to save; needs a running event loop."""
        self._saved = dict(self._snapshots())
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Save for the last time."""
        if self._task is not None:
            self._stops.set()
            await self._task
            self._task = None

    async def _run(self) -> None:
        is_last = False
        while not is_last:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._stops.wait()
            is_last = self._stops.is_set()
            await self._save()

    async def _save(self) -> None:
        snapshots = dict(self._snapshots())
        if snapshots == self._saved:
            return
        try:
            await asyncio.to_thread(write_profile, self._path, snapshots)
        except OSError as exc:
            if not self._has_failed:
                self._has_failed = True
                _log.warning("latency_profile_not_saved", path=str(self._path), reason=str(exc))
            return
        self._has_failed = False
        self._saved = snapshots
