"""One attempt of one request at one worker. Owns the worker's in-flight count from start to end."""

import asyncio
from typing import TYPE_CHECKING, Protocol

from hfx_router.http1.body_framing import PayloadSink
from hfx_router.http1.response_head import ResponseHead
from hfx_router.upstream.connection import LegFailure, UpstreamConnection
from hfx_router.upstream.pool import ConnectionPool
from hfx_router.workers.worker import Worker

if TYPE_CHECKING:
    from hfx_router.exchange.service import Service

_STALE_WITHIN_S = 1.0
"""A kept-alive connection that closes later than this after a request took that request with it."""


class LegOwner(Protocol):
    """What an exchange hears from its legs."""

    def leg_head(self, leg: "Leg", head: ResponseHead) -> PayloadSink | None:
        """The worker answers; return who wants the payload without its framing, if anybody."""
        ...

    def leg_whole(self, leg: "Leg", head: ResponseHead, body: bytes) -> None:
        """The complete answer at once, with its body by length; the leg is over."""
        ...

    def leg_body(self, leg: "Leg", data: bytes) -> None:
        """Bytes of the answer's body, framing included."""
        ...

    def leg_end(self, leg: "Leg") -> None:
        """The answer is complete; the leg is over."""
        ...

    def leg_lost(self, leg: "Leg", failure: LegFailure) -> None:
        """There will be no (complete) answer; the leg is over."""
        ...


class Leg:
    """A request on its way to one worker, or the answer on its way back."""

    __slots__ = (
        "_connect_task", "_owner", "_pool", "_request", "_sent_at_s", "_service", "connection",
        "head", "is_over", "was_sent", "worker",
    )  # fmt: skip

    def __init__(
        self,
        service: "Service",
        owner: LegOwner,
        worker: Worker,
        pool: ConnectionPool,
        request: bytes,
    ) -> None:
        self._service = service
        self._owner = owner
        self._pool = pool
        self._request = request
        self._connect_task: asyncio.Task[None] | None = None
        self._sent_at_s = 0.0
        self.worker = worker
        self.connection: UpstreamConnection | None = None
        self.head: ResponseHead | None = None
        self.was_sent = False
        """Whether the worker may have seen the request."""
        self.is_over = False

    def start(self) -> None:
        """Send, on a kept-alive connection when there is one."""
        worker = self.worker
        worker.num_inflight += 1
        worker.num_selected += 1
        connection = self._pool.take_idle()
        if connection is not None:
            self._send(connection)
        else:
            self._connect_task = self._pool.connect(self, self._connected)

    def _connected(self, connection: UpstreamConnection) -> None:
        self._connect_task = None
        self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        self.connection = connection
        self.was_sent = True
        self._sent_at_s = self._service.now_s()
        connection.send(self._request, self)

    def cancel(self) -> None:
        """Give up: closes the connection, which tells the worker; the owner hears nothing more."""
        if self.is_over:
            return
        self._release()
        if self._connect_task is not None:
            task, self._connect_task = self._connect_task, None
            task.cancel()
        if self.connection is not None:
            self.connection.abandon()

    def _release(self) -> None:
        self.is_over = True
        self.worker.num_inflight -= 1

    # --- ResponseSink ---

    def on_head(self, head: ResponseHead) -> PayloadSink | None:
        """See ResponseSink."""
        self.head = head
        self._service.recorder.upstream_answers[self.worker.spec.role, head.status] += 1
        return self._owner.leg_head(self, head)

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        """See ResponseSink."""
        self.head = head
        self._service.recorder.upstream_answers[self.worker.spec.role, head.status] += 1
        self._account_answer()
        self._owner.leg_whole(self, head, body)

    def on_body(self, data: bytes) -> None:
        """See ResponseSink."""
        self._owner.leg_body(self, data)

    def on_end(self) -> None:
        """See ResponseSink."""
        self._account_answer()
        self._owner.leg_end(self)

    def discard_answer(self) -> None:
        """Take the head for the whole answer, and close; the owner hears nothing more."""
        if self.is_over:
            return
        self._account_answer()
        if self.connection is not None:
            self.connection.abandon()

    def _account_answer(self) -> None:
        self._release()
        assert self.head is not None
        worker = self.worker
        self._service.registry.record_success(worker)
        if self.head.status >= 500:
            self._service.recorder.worker_errors[worker.spec.role, "server_error"] += 1
            self._service.registry.suspect(worker)

    def on_lost(self, failure: LegFailure) -> None:
        """See ResponseSink."""
        if failure is LegFailure.STALE:
            if self._service.now_s() - self._sent_at_s < _STALE_WITHIN_S:
                self.connection = None
                self._connect_task = self._pool.connect(self, self._connected)
                return
            failure = LegFailure.RESET
        self._connect_task = None
        self._release()
        worker = self.worker
        self._service.recorder.worker_errors[worker.spec.role, failure.value] += 1
        self._service.registry.record_failure(worker)
        self._owner.leg_lost(self, failure)
