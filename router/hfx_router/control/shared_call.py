"""One run at a time of something expensive that many may ask for at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

ResultT = TypeVar("ResultT")


class SharedCall(Generic[ResultT]):
    """Runs `function`; callers that come while it runs share its result.

    A caller that leaves does not stop the run for the others.
    """

    def __init__(self, function: Callable[[], Awaitable[ResultT]]) -> None:
        self._function = function
        self._task: asyncio.Future[ResultT] | None = None

    async def __call__(self) -> ResultT:
        """Return the result of the run under way, or of a new one."""
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._function())
        return await asyncio.shield(self._task)
