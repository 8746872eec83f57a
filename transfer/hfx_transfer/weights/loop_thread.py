"""An asyncio loop in a thread of its own, for code that is called from any thread."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, Self, TypeVar

_T = TypeVar("_T")


class LoopThread:
    """Runs coroutines for other threads. Its owner closes it once."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._is_closing = False
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Wait for a coroutine that limits its own time; return its result or raise its error.

        Raises:
            concurrent.futures.CancelledError: the thread is closed, or was meanwhile.
        """
        with self._lock:
            if self._is_closing:
                coroutine.close()
                raise CancelledError
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result()

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Have something quick called in the thread; returns at once. Nothing after `close`."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    def close(self) -> None:
        """Cancel what still runs and end the thread."""
        with self._lock:
            if self._is_closing:
                return
            self._is_closing = True
            cancelling = asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop)
        cancelling.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
