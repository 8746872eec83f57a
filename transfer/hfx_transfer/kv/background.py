"""An event loop in a thread of its own, for callers that have none or must not wait."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")


class BackgroundLoop:
    """Runs from construction to `close`.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        # The loop itself holds tasks by weak references only.
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[*_Args], object], *args: *_Args) -> None:
        """Have the loop call a function soon; nothing happens once it is closed."""
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            # Closed between the caller's last look and this.
            return

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task until it ends, or `close`. To be called in the loop's thread."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def wait_for(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run something and return what it does. Not to be called in the loop's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Cancel what runs and end the thread; twice is once."""
        if self._thread.is_alive():
            self.call(self._loop.stop)
            self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()
