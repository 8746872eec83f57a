"""What every exchange does: accept, be admitted, answer, fail, end exactly once."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from http import HTTPStatus
from typing import ClassVar

from hfx_router.body.inspect import (
    PAIRING_FIELDS,
    SLO_FIELDS,
    RoutingFields,
    read_routing_fields,
)
from hfx_router.body.splice import remove_members
from hfx_router.errors import error_event, render_error
from hfx_router.exchange.answer_facts import facts_of_answer, facts_of_stream
from hfx_router.exchange.client import Client
from hfx_router.exchange.cors import cors_lines
from hfx_router.exchange.endpoints import Endpoint
from hfx_router.exchange.judgement import judge
from hfx_router.exchange.leg import Leg
from hfx_router.exchange.promises import ECHO_HEADER, echo_line
from hfx_router.exchange.request_headers import forwarded_lines
from hfx_router.exchange.service import Service
from hfx_router.exchange.wishes import make_wish
from hfx_router.http1.body_framing import PayloadSink
from hfx_router.http1.request_reader import ParsedRequest
from hfx_router.http1.response_head import ResponseHead, render_response_head
from hfx_router.http1.sse_meter import SseMeter, WholeAnswer
from hfx_router.metrics.labels import Outcome, outcome_of
from hfx_router.scheduling.dispatcher import Assignment
from hfx_router.scheduling.place import AnswerFacts, Desk, Place, Wish
from hfx_router.upstream.connection import LegFailure
from hfx_router.workers.worker import Worker
from hfx_sgl.errors import InvalidRequestError, RequestError, UpstreamTimeoutError
from hfx_sgl.policy.retry import RETRYABLE_STATUSES, backoff_s, may_retry
from hfx_sgl.policy.slo.config import NO_CLASS
from hfx_sgl.policy.slo.resolve import NO_PROMISE
from hfx_sgl.types import Role

CLIENT_CLOSED_REQUEST = 499
"""Status recorded for a request whose client left, as nginx numbers it; never sent."""


_TAKEN_FIELDS = PAIRING_FIELDS | SLO_FIELDS
"""Fields of a body that end here."""


_NO_FIELDS = RoutingFields()


class Exchange(ABC):
    """One client request from its last byte to the last byte of its answer."""

    # Defaults of the class, so that a request pays only for what it changes.
    deadline_s = 0.0
    first_byte_s = 0.0
    _retryable_statuses: ClassVar[frozenset[int]] = RETRYABLE_STATUSES
    _request_id = b""
    _echo_line = b""
    _upstream_head = b""
    _slot: int | None = None
    """Its ticket at the admission gate."""
    _place: Place | None = None
    """With the scheduler, from the first attempt on."""
    _retry: asyncio.TimerHandle | None = None
    _num_attempts = 0
    _num_lost = 0
    _tried: tuple[Worker, ...] = ()
    _answering: Leg | None = None
    _has_answered = False
    _meter: SseMeter | None = None
    """Follows an answer that is an event stream."""
    _tail: SseMeter | None = None
    """Follows any other answer to a request that was promised something."""
    _whole: WholeAnswer | None = None
    """The same, of one that came in one piece."""
    _reframes = False
    """Whether the payload goes out without the worker's framing."""

    def __init__(
        self, service: Service, client: Client, request: ParsedRequest, endpoint: Endpoint
    ) -> None:
        self.service = service
        self.request = request
        self.endpoint = endpoint
        self.started_s = now_s = service.now_s()
        self.deadline_s = now_s + service.config.request_timeout_s
        self._client: Client | None = client
        self._fields = _NO_FIELDS
        self._promise = NO_PROMISE
        self._keep_alive = request.keep_alive

    # --- acceptance ---

    def start(self) -> None:
        """Begin; whatever happens, the client gets an answer or leaves."""
        service = self.service
        service.exchanges.add(self)
        service.recorder.num_inflight += 1
        self._request_id = service.request_ids.request_id(
            self.request.fields, self.endpoint.id_prefix
        )
        try:
            self._accept()
        except RequestError as error:
            self.refused(error)
            return
        gate = service.gate
        if gate is None:
            self.admitted()
        else:
            self._slot = gate.draw_ticket()
            gate.apply(self._slot, self)

    def _accept(self) -> None:
        service = self.service
        headers = self.request.fields
        service.api_keys.check(headers.get(b"authorization"))
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise InvalidRequestError(
                "compressed request bodies are not supported", param="content-encoding"
            )
        fields = self._fields = read_routing_fields(self.request.body)
        promise = self._promise = service.promises.promise(self.request, fields, self.endpoint)
        if ECHO_HEADER in headers:
            self._echo_line = echo_line(promise)
        if fields.has_pairing_fields() or fields.has_slo_fields():
            self.request.body = remove_members(self.request.body, _TAKEN_FIELDS)
        self._upstream_head = b"%bx-request-id: %b\r\n" % (
            forwarded_lines(self.request.headers),
            self._request_id,
        )

    @property
    def prompt(self) -> bytes:
        """See policy.view.RequestView."""
        return self._fields.prompt_json()

    @property
    def routing_key(self) -> str | None:
        """See policy.view.RequestView."""
        key = self.request.fields.get(b"x-smg-routing-key")
        return None if key is None else key.decode("latin-1")

    def admitted(self) -> None:
        """A slot was granted: send the request."""
        self.service.retry_budget.deposit()
        self._attempt()

    def refused(self, error: RequestError) -> None:
        """Answer with an error before anything was sent to a worker."""
        self._slot = None
        self.answer_error(error)

    # --- what the legs report: see LegOwner ---

    @abstractmethod
    def leg_head(self, leg: Leg, head: ResponseHead) -> PayloadSink | None:
        """See LegOwner."""

    @abstractmethod
    def leg_whole(self, leg: Leg, head: ResponseHead, body: bytes) -> None:
        """See LegOwner."""

    @abstractmethod
    def leg_body(self, leg: Leg, data: bytes) -> None:
        """See LegOwner."""

    @abstractmethod
    def leg_end(self, leg: Leg) -> None:
        """See LegOwner."""

    @abstractmethod
    def leg_lost(self, leg: Leg, failure: LegFailure) -> None:
        """See LegOwner."""

    # --- attempts ---

    def _attempt(self) -> None:
        """Have the request sent: by the scheduler where there is one, else at once."""
        self._retry = None
        self._num_attempts += 1
        desk = self.service.desk
        if desk is None or not self.endpoint.infers:
            self._choose_and_send()
            return
        error = desk.dispatcher.unavailable()
        if error is not None:
            self.answer_error(error)
            return
        if self._place is None:
            self._place = Place(desk, self, self._wish(desk))
        self._place.take(self._tried)

    @abstractmethod
    def _choose_and_send(self) -> None:
        """Choose workers by the policies, and send."""

    @abstractmethod
    def assigned(self, assignment: Assignment) -> None:
        """See Applicant."""

    def turned_away(self, error: RequestError) -> None:
        """See Applicant."""
        self.answer_error(error)

    def recalled(self) -> None:
        """See Applicant."""
        self._cancel_legs(aborts=True)
        self._answering = self._meter = self._tail = None

    def _wish(self, desk: Desk) -> Wish:
        """Return what the request asks the scheduler for."""
        promise = self._promise
        return make_wish(
            self._fields,
            self.request.fields,
            request_id=self._request_id,
            model_id=desk.dispatcher.model_id,
            class_name=promise.class_name or self.endpoint.path,
            started_s=self.started_s,
            slo=promise.slo,
            is_pd=self.service.config.is_pd,
        )

    @abstractmethod
    def _cancel_legs(self, *, aborts: bool) -> None:
        """Give up all legs under way; with `aborts` also tell the workers."""

    def _choose(self, role: Role, candidates: Sequence[Worker]) -> Worker:
        """Return the one of `candidates`, which is never empty, that the role's policy chooses."""
        if self._tried:  # another worker than the one that failed, where there is another
            untried = [worker for worker in candidates if worker not in self._tried]
            candidates = untried or candidates
        policy = self.service.policies[role]
        return policy.select(self, candidates, self.service.now_s())

    def _make_leg(self, worker: Worker, body: bytes) -> Leg:
        """Return a leg, not started, that brings `body` to a worker."""
        pool = self.service.pool(worker)
        lines = self._upstream_head
        key = worker.spec.api_key
        if key is not None and b"authorization" not in self.request.fields:
            lines += f"authorization: Bearer {key}\r\n".encode()
        query = self.request.query
        request = b"POST %b%b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n%b" % (
            self.endpoint.worker_target,
            b"?" + query if query else b"",
            pool.host_line,
            lines,
            len(body),
            body,
        )
        return Leg(self.service, self, worker, pool, request)

    def _retries(self, worker: Worker, status: int | None) -> bool:
        """Schedule another attempt if the rules allow one; `status` is None without an answer."""
        service = self.service
        retryable = self._retryable_statuses
        if self._has_answered or (status is not None and status not in retryable):
            return False
        key = (self.endpoint.path, worker.spec.role)
        allowed = may_retry(
            service.retry,
            num_attempts=self._num_attempts,
            num_lost=self._num_lost,
            status=status,
            has_answered=self._has_answered,
            retryable=retryable,
        )
        if not allowed or not service.retry_budget.withdraw():
            service.recorder.retries_exhausted[key] += 1
            return False
        service.recorder.retries[key] += 1
        if self._place is not None:
            self._place.give_up()
        self._tried = (*self._tried, worker)
        delay_s = backoff_s(service.retry, self._num_attempts + 1, service.rng)
        service.recorder.backed_off(self._num_attempts + 1, delay_s)
        self._answering = self._meter = self._tail = None
        self._retry = asyncio.get_running_loop().call_later(delay_s, self._attempt)
        return True

    # --- answers ---

    def _extra_lines(self) -> bytes:
        lines = b"x-request-id: %b\r\n%b" % (self._request_id, self._echo_line)
        if not self._keep_alive:
            lines += b"connection: close\r\n"
        origin = self.request.fields.get(b"origin")
        if origin is not None:
            lines += cors_lines(origin, self.service.config.cors_origins)
        return lines

    @abstractmethod
    def _worker_lines(self) -> bytes:
        """Return header lines that name the workers."""

    def _write(self, data: bytes) -> None:
        """Pass on bytes of the answer, preceded by its head if they are the first."""
        client = self._client
        if client is None:
            return
        if not self._has_answered:
            self._has_answered = True
            self.first_byte_s = self.service.now_s()
            leg = self._answering
            assert leg is not None
            assert leg.head is not None
            if self._place is not None and leg.head.status < 300:
                if self._meter is not None:
                    self._place.first_token()
                else:
                    self._place.prompt_computed()
            data = self._answer_head(self._extra_lines()) + data
            if not leg.is_over and not self._reframes:
                assert leg.connection is not None
                leg.connection.forward = client.write_through()
                leg.connection.forward(data)
                return
        client.write(data)

    def _answer_head(self, extra_lines: bytes) -> bytes:
        assert self._answering is not None
        head = self._answering.head
        assert head is not None
        if self.service.config.names_workers:
            extra_lines += self._worker_lines()
        if self._reframes:
            return render_response_head(head, extra_lines, reframed=True)
        ends_with_connection = (
            head.content_length is None and not head.is_chunked and head.status not in (204, 304)
        )
        if ends_with_connection and self._keep_alive:
            self._keep_alive = False
            extra_lines += b"connection: close\r\n"
        return render_response_head(head, extra_lines)

    def _payload_sink_for_answer(self, head: ResponseHead) -> PayloadSink | None:
        """Return who wants the payload of the answer; None where its wire bytes suffice."""
        self._reframes = self.request.is_http_10 and head.is_chunked  # 1.0 knows no chunks
        meter = self._meter_for_answer(head)
        if self._reframes:
            return self._take_payload
        return None if meter is None else meter.feed

    def _meter_for_answer(self, head: ResponseHead) -> SseMeter | None:
        """Return what the payload of an answer is to be fed to; None where nobody wants to know."""
        if head.is_event_stream:
            self._meter = SseMeter()
            return self._meter
        if self._place is not None or self._promise.is_bounded:
            self._tail = SseMeter()
        return self._tail

    def _measure(self, payload: bytes) -> None:
        meter = self._meter or self._tail
        if meter is not None:
            meter.feed(payload)

    def _take_payload(self, payload: bytes) -> None:
        """Count and, for a client that cannot read chunks, pass on."""
        self._measure(payload)
        self._write(payload)

    def _answer_whole(self, head: ResponseHead, body: bytes) -> None:
        """Pass on an answer that is complete and no stream."""
        if head.is_event_stream:
            self._meter = SseMeter()
            self._meter.feed(body)
        elif self._place is not None or self._promise.is_bounded:
            self._whole = WholeAnswer(body)
        self._write(body)
        self._end(head.status, "")

    def answer_error(self, error: RequestError) -> None:
        """End with an error of our own, in whichever form still fits."""
        client = self._client
        if client is None:
            return
        if not self._has_answered:
            self._keep_alive = self._keep_alive and not error.closes_connection
            client.write(render_error(error, self._extra_lines()))
        elif not self._append_error_event(client, error):
            self._keep_alive = False
            self._end(error.http_status, error.code, breaks_off=True)
            return
        self._end(error.http_status, error.code)

    def _append_error_event(self, client: Client, error: RequestError) -> bool:
        """Add the error to a stream under way; False where there is no room for it.

        There is none inside an event, nor inside a chunk, of which the client has the beginning.
        """
        if self._meter is None or not self._meter.at_event_boundary:
            return False
        if not self._reframes and not self._can_append_chunk():
            return False
        self._keep_alive = False
        event = error_event(error)
        if not self.request.is_http_10:
            event = b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event)
        client.write(event)
        return True

    def _can_append_chunk(self) -> bool:
        leg = self._answering
        return leg is not None and leg.connection is not None and leg.connection.can_append

    def _complete(self) -> None:
        """The worker's answer has been passed on to its end."""
        if not self._has_answered:
            self._write(b"")
        leg = self._answering
        assert leg is not None
        assert leg.head is not None
        self._end(leg.head.status, "")

    # --- ends ---

    def timed_out(self) -> None:
        """The request's time is up."""
        self._suspect_legs()
        timeout_s = self.service.config.request_timeout_s
        error = UpstreamTimeoutError(
            f"the request took longer than {timeout_s:g} s (--request-timeout-secs)"
        )
        self._cancel_retry()
        self._cancel_legs(aborts=True)
        self.answer_error(error)
        self._forget()

    @abstractmethod
    def _suspect_legs(self) -> None:
        """Have the workers that are late looked at."""

    def client_gone(self) -> None:
        """The client left: stop the work for it. May be said again, and after the answer."""
        client, self._client = self._client, None
        self._cancel_retry()
        self._cancel_legs(aborts=True)
        if client is not None:
            self._end(CLIENT_CLOSED_REQUEST, "client_cancelled")
        self._forget()

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _end(self, status: int, error_code: str, *, breaks_off: bool = False) -> None:
        """Settle accounts and let the connection go on to its next request."""
        client, self._client = self._client, None
        service = self.service
        recorder = service.recorder
        recorder.num_inflight -= 1
        now_s = service.now_s()
        is_streaming = bool(self._fields.stream)
        path = self.endpoint.path
        recorder.answered(path, is_streaming, status, error_code, now_s - self.started_s)
        stream = is_met = None
        if self._meter is not None and status == 200:
            stream = self._record_stream(self._meter, now_s)
        if self._promise is not NO_PROMISE:
            is_met = self._judge(outcome_of(status, error_code), now_s - self.started_s, stream)
        if self._place is not None:
            # The place knows its applicant: no cycle is left for the collector.
            place, self._place = self._place, None
            is_complete = status == HTTPStatus.OK and not error_code
            place.ended(status, self._answer_facts() if is_complete else None, stream, is_met)
        if self._slot is not None:
            slot, self._slot = self._slot, None
            assert service.gate is not None
            service.gate.leave(slot)
        self._settle()
        if client is not None:
            if breaks_off:
                client.break_off()
            else:
                client.finished(keep_alive=self._keep_alive)

    def _answer_facts(self) -> AnswerFacts:
        """Return what a complete answer says of its length and its prompt's."""
        if self._meter is not None:
            return facts_of_stream(self._meter, self.endpoint.num_extra_events)
        return facts_of_answer(self._whole or self._tail)

    def _settle(self) -> None:
        """Forget the exchange, unless a subclass has a leg left to wait for."""
        self._forget()

    def _forget(self) -> None:
        """Nothing is left to do. Lets go of the legs, so that no cycle waits for the collector."""
        self._answering = None
        self.service.exchanges.discard(self)

    def _judge(
        self, outcome: Outcome, e2e_s: float, stream: tuple[float, float | None] | None
    ) -> bool | None:
        """Count the promise as kept or broken, if the end of the request says which; return it."""
        promise = self._promise
        if not promise.is_bounded:
            return None
        answer = self._meter or self._whole or self._tail
        is_met = judge(promise.slo, outcome, e2e_s=e2e_s, stream=stream, answer=answer)
        if is_met is not None:
            self.service.recorder.judged(promise.class_name or NO_CLASS, is_met)
        return is_met

    def _record_stream(self, meter: SseMeter, now_s: float) -> tuple[float, float | None]:
        """Count the timing of a stream; returns its times to first and per output token.

        The latter is None with fewer than two tokens.
        """
        ttft_s = self.first_byte_s - self.started_s
        num_tokens = max(1, meter.num_output_tokens(self.endpoint.num_extra_events))
        tpot_s = (now_s - self.first_byte_s) / (num_tokens - 1) if num_tokens > 1 else None
        self.service.recorder.streamed(self.endpoint.path, ttft_s, tpot_s, num_tokens)
        return ttft_s, tpot_s

    def pause(self) -> None:
        """The client does not keep up: stop reading the answer."""
        if self._answering is not None and self._answering.connection is not None:
            self._answering.connection.pause()

    def resume(self) -> None:
        """The client caught up."""
        if self._answering is not None and self._answering.connection is not None:
            self._answering.connection.resume()
