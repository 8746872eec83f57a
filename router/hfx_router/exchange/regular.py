"""A request served by one worker from beginning to end."""

from hfx_router.body.inspect import DP_FIELDS
from hfx_router.body.splice import append_members, remove_members
from hfx_router.exchange.base import Exchange
from hfx_router.exchange.endpoints import PdSupport
from hfx_router.exchange.leg import Leg
from hfx_router.exchange.priority import with_priority
from hfx_router.http1.body_framing import PayloadSink
from hfx_router.http1.response_head import ResponseHead
from hfx_router.scheduling.dispatcher import Assignment, no_worker
from hfx_router.upstream.connection import LegFailure
from hfx_router.workers.worker import Worker
from hfx_sgl.errors import NotSupportedError, UpstreamError
from hfx_sgl.types import Role


class RegularExchange(Exchange):
    """One leg at a time."""

    _leg: Leg | None = None

    def _accept(self) -> None:
        super()._accept()
        if self.service.config.is_pd and self.endpoint.pd is PdSupport.NONE:
            raise NotSupportedError(
                f"{self.endpoint.path} is not served when prefill and decode are separated"
            )

    def _choose_and_send(self) -> None:
        role = Role.PREFILL if self.service.config.is_pd else Role.REGULAR
        workers = self.service.registry.usable(role)
        if not workers:
            self._leg = None
            self.answer_error(no_worker(role))
            return
        self._send(self._choose(role, workers), self.request.body)

    def assigned(self, assignment: Assignment) -> None:
        """See Applicant."""
        self._send(
            assignment.worker,
            with_priority(self.request.body, self._fields, assignment, (assignment.worker,)),
        )

    def _send(self, worker: Worker, body: bytes) -> None:
        if worker.spec.dp_rank is not None:
            body = append_members(
                remove_members(body, DP_FIELDS) if self._fields.chooses_dp_rank() else body,
                b'"routed_dp_rank":%d' % worker.spec.dp_rank,
            )
        self._leg = self._answering = leg = self._make_leg(worker, body)
        leg.start()

    def leg_head(self, leg: Leg, head: ResponseHead) -> PayloadSink | None:
        """See LegOwner."""
        if head.status in self._retryable_statuses and self._retries(leg.worker, head.status):
            leg.discard_answer()
            return None
        return self._payload_sink_for_answer(head)

    def leg_whole(self, leg: Leg, head: ResponseHead, body: bytes) -> None:
        """See LegOwner."""
        if head.status not in self._retryable_statuses or not self._retries(
            leg.worker, head.status
        ):
            self._answer_whole(head, body)

    def leg_body(self, leg: Leg, data: bytes) -> None:
        """See LegOwner."""
        if not self._reframes:
            self._write(data)

    def leg_end(self, leg: Leg) -> None:
        """See LegOwner."""
        self._complete()

    def leg_lost(self, leg: Leg, failure: LegFailure) -> None:
        """See LegOwner."""
        if leg.was_sent:
            self._num_lost += 1
        if not self._retries(leg.worker, None):
            self.answer_error(UpstreamError(lost_message(leg, failure)))

    def _forget(self) -> None:
        self._leg = None
        super()._forget()

    def _cancel_legs(self, *, aborts: bool) -> None:
        if self._leg is not None:
            self._leg.cancel()  # SGLang takes the closed connection for an abort

    def _suspect_legs(self) -> None:
        if self._leg is not None and not self._leg.is_over:
            self.service.registry.suspect(self._leg.worker)

    def _worker_lines(self) -> bytes:
        assert self._leg is not None
        return f"x-hfx-worker: {self._leg.worker.shown_url}\r\n".encode()


def lost_message(leg: Leg, failure: LegFailure) -> str:
    """Say what happened to a leg that ended without a complete answer."""
    what = {
        LegFailure.CONNECT: "could not be reached",
        LegFailure.PROTOCOL: "answered with something that is not HTTP/1.1",
    }.get(failure, "closed the connection before its answer was complete")
    return f"the {leg.worker.spec.role} worker {leg.worker.shown_url} {what}"
