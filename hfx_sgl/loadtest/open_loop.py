"""Sends each request at its time, whatever became of those before it."""

import asyncio
from array import array
from collections import deque
from collections.abc import Callable, Iterable

from hfx_sgl.clock import Clock
from hfx_sgl.loadtest.exchange import Exchange
from hfx_sgl.loadtest.pool import ConnectionPool
from hfx_sgl.loadtest.settings import LoadSettings
from hfx_sgl.results.record import RequestRecord, Status
from hfx_sgl.workload.planned import PlannedRequest


class OpenLoop:
    """One run. Requests are prepared a little ahead, one after the other, so that neither writing
    out a long prompt nor opening a connection delays their sending.

    Args:
        on_record: called with the place of a request in the order of arrival, and its outcome.
    """

    def __init__(
        self,
        settings: LoadSettings,
        clock: Clock,
        on_record: Callable[[int, RequestRecord], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._on_record = on_record
        self._pool = ConnectionPool(settings.target, clock)
        self._pending: dict[Exchange, int] = {}
        self._held: deque[Exchange] = deque()
        self._changed = asyncio.Event()
        self.start_s = 0.0
        """When the run started, on the clock."""
        self.last_at_s = 0.0
        """When the last request was due, counted from the start."""
        self.num_prepared = 0
        self.num_sent = 0
        self.num_held = 0
        """Requests that had to wait for others to end."""
        self.num_running = 0
        self.num_by_status = dict.fromkeys(Status, 0)
        self.send_errors_s: array[float] = array("d")
        self.itls_s: dict[str, array[float]] = {}
        """Per class, of completed requests."""

    async def run(self, requests: Iterable[PlannedRequest]) -> None:
        """Send `requests`, which come in order of time, and wait for their ends."""
        lead_s = self._settings.lead_s
        self.start_s = self._clock.now_s() + lead_s
        loop = asyncio.get_running_loop()
        try:
            for position, planned in enumerate(requests):
                due_s = self.start_s + planned.at_s
                # Also when it is late: answers have to be read meanwhile.
                await asyncio.sleep(max(0.0, due_s - lead_s - self._clock.now_s()))
                exchange = self._prepare(planned)
                self._pending[exchange] = position
                self.num_prepared += 1
                self.last_at_s = planned.at_s
                loop.call_later(max(0.0, due_s - self._clock.now_s()), self._send, exchange)
            await self._drain()
        finally:
            await self._pool.close()

    def _prepare(self, planned: PlannedRequest) -> Exchange:
        return Exchange(
            planned,
            settings=self._settings,
            pool=self._pool,
            clock=self._clock,
            start_s=self.start_s,
            on_end=self._on_end,
        )

    def _send(self, exchange: Exchange) -> None:
        limit = self._settings.max_concurrency
        if limit is not None and self.num_running >= limit:
            self._held.append(exchange)
            self.num_held += 1
            return
        self.num_sent += 1
        self.num_running += 1
        exchange.send()
        self.send_errors_s.append(exchange.send_error_s)
        self._changed.set()

    def _on_end(self, exchange: Exchange) -> None:
        position = self._pending.pop(exchange)
        self.num_running -= 1
        record = exchange.record()
        self.num_by_status[record.status] += 1
        if record.status is Status.OK:
            itls_s = self.itls_s.get(record.class_name)
            if itls_s is None:
                itls_s = self.itls_s[record.class_name] = array("d")
            itls_s.extend(exchange.answer.itls_s)
        self._on_record(position, record)
        if self._held:
            self._send(self._held.popleft())
        self._changed.set()

    async def _drain(self) -> None:
        """Wait until all have ended; give up those that take too long after the last sending."""
        while self.num_sent < self.num_prepared:
            await self._change()
        try:
            async with asyncio.timeout(self._settings.drain_timeout_s):
                while self._pending:
                    await self._change()
        except TimeoutError:
            for exchange in list(self._pending):
                exchange.give_up("no end within the drain timeout")

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
