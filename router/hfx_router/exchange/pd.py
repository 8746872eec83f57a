"""A request served by a prefill and a decode worker at once.

Both get the same body at the same time; the decode's answer is the client's. A leg that fails
before the first byte of an answer ends the pair at once, because the other leg would wait for it,
and each leg's worker answers only for its own failures.
"""

from typing import ClassVar

from hfx_transfer.handoff import bootstrap_address_members, pairing_members
from hfx_transfer.sglang.pairs.outcomes import handoff_failure

from hfx_router.body.inspect import DP_FIELDS, batch_size, num_samples
from hfx_router.body.splice import append_members, remove_members
from hfx_router.exchange.base import Exchange
from hfx_router.exchange.endpoints import PromptLogprobs
from hfx_router.exchange.leg import Leg
from hfx_router.exchange.logprob_merge import LogprobMerge
from hfx_router.exchange.logprob_places import (
    CompletionPlaces,
    GeneratePlaces,
    LogprobPlaces,
)
from hfx_router.exchange.priority import with_priority
from hfx_router.exchange.regular import lost_message
from hfx_router.http1.body_framing import PayloadSink
from hfx_router.http1.response_head import ResponseHead
from hfx_router.pairs.refusal import no_pair
from hfx_router.scheduling.dispatcher import Assignment, no_worker
from hfx_router.upstream.connection import LegFailure
from hfx_router.workers.worker import Worker
from hfx_sgl.errors import HandoffError, InvalidRequestError
from hfx_sgl.policy.pairs.view import partners, with_partner
from hfx_sgl.policy.retry import PD_RETRYABLE_STATUSES
from hfx_sgl.types import Role

_PREFILL_LINGER_S = 10.0
"""How long a prefill's answer may be outstanding once the decode has answered: the prefill is done
by then, so only its last bytes are due."""

_MAX_ERROR_BYTES = 64 * 1024
"""An error answer up to this long is read to its end before anything is decided about it: whether
the hand-off failed or the worker stands in the text. SGLang's are a few hundred bytes."""

_MAX_ABORT_CALLS = 128
"""Abort calls for one batch; a worker frees the rest when it notices the closed connection."""


class PdExchange(Exchange):
    """Two legs at a time."""

    _retryable_statuses: ClassVar[frozenset[int]] = PD_RETRYABLE_STATUSES
    _prefill: Leg | None = None
    _decode: Leg | None = None
    _merge: LogprobMerge | None = None
    _errors: dict[Leg, bytearray] | None = None
    """Error answers that are not complete."""
    _num_prompts: int | None = None
    _rid: str | list[str] = ""

    def _accept(self) -> None:
        super()._accept()
        fields = self._fields
        self._num_prompts = batch_size(fields)
        if num_samples(fields) > 1:
            # SGLang gives all samples of a prompt, and a warm-up before them, the prompt's one
            # room (0.5.23, tokenizer_manager._handle_batch_request), and both workers hang.
            raise InvalidRequestError(
                "n: SGLang cannot hand over more than one sample of a prompt between prefill and "
                "decode; send n requests, or a batch that repeats the prompt",
                param="n",
                code="n_not_supported",
            )
        if fields.rid == "":
            self.request.body = remove_members(self.request.body, {"rid"})

    # --- attempts ---

    def _choose_and_send(self) -> None:
        service = self.service
        registry, pairs = service.registry, service.pairs
        prefills, decodes = registry.usable(Role.PREFILL), registry.usable(Role.DECODE)
        if not prefills or not decodes:
            self.answer_error(no_worker(Role.DECODE if prefills else Role.PREFILL))
            return
        if pairs.barred:
            prefills = with_partner(pairs, prefills, decodes)
            if not prefills:
                self.answer_error(no_pair(pairs, registry, service.now_s()))
                return
        prefill = self._choose(Role.PREFILL, prefills)
        if pairs.barred:
            decodes = partners(pairs, prefill, decodes)
        decode = self._choose(Role.DECODE, decodes)
        if pairs.has_due:
            pairs.taken(prefill.worker_id, decode.worker_id, service.now_s())
        self._send(prefill, decode, self.request.body)

    def assigned(self, assignment: Assignment) -> None:
        """See Applicant."""
        prefill, decode = assignment.prefill, assignment.worker
        assert prefill is not None
        body = with_priority(self.request.body, self._fields, assignment, (prefill, decode))
        self._send(prefill, decode, body)

    def _send(self, prefill: Worker, decode: Worker, body: bytes) -> None:
        if self._fields.return_logprob or self._fields.echo:
            self._prepare_merge()
        bodies = self._leg_bodies(prefill, decode, body)
        self._prefill = self._make_leg(prefill, bodies[0])
        self._decode = self._make_leg(decode, bodies[1])
        self._prefill.start()
        self._decode.start()

    def _prepare_merge(self) -> None:
        """Have the prompt's log probabilities joined into the answer, if they are asked for."""
        place = self.endpoint.prompt_logprobs
        places: LogprobPlaces
        if place is PromptLogprobs.GENERATE and self._fields.wants_logprobs():
            places = GeneratePlaces()
        elif place is PromptLogprobs.COMPLETIONS and self._fields.wants_echoed_logprobs():
            places = CompletionPlaces()
        else:
            return
        self._merge = LogprobMerge(
            is_streaming=bool(self._fields.stream), places=places, emit=self._emit_merged
        )

    def _leg_bodies(self, prefill: Worker, decode: Worker, body: bytes) -> tuple[bytes, bytes]:
        """Return the bodies for the two legs: the request's, paired by a fresh room."""
        service = self.service
        room = service.rooms.take(self._num_prompts or 1)
        members = pairing_members(
            bootstrap_address_members(prefill.bootstrap_host, prefill.bootstrap_port), room
        )
        if self._fields.rid:
            self._rid = self._fields.rid
        else:
            self._rid = rid = f"{service.rid_prefix}{room:016x}"
            members = b'%b,"rid":"%b"' % (members, rid.encode())
        if prefill.spec.dp_rank is None and decode.spec.dp_rank is None:
            paired = append_members(body, members)
            return paired, paired
        if self._fields.chooses_dp_rank():
            body = remove_members(body, DP_FIELDS)
        return _ranked_bodies(body, members, prefill.spec.dp_rank, decode.spec.dp_rank)

    # --- what the legs report ---

    def leg_head(self, leg: Leg, head: ResponseHead) -> PayloadSink | None:
        """See LegOwner."""
        if head.status < 300:
            if leg is self._decode:
                self._answering = leg
        elif leg is self._prefill and self._has_answered:
            return None  # the decode is answering, so the hand-off has happened
        elif head.status >= 500 and not leg.is_over and 0 < _length(head) <= _MAX_ERROR_BYTES:
            if self._errors is None:
                self._errors = {}
            error = self._errors[leg] = bytearray()
            return error.extend
        elif head.status in self._retryable_statuses and self._retries(leg.worker, head.status):
            leg.discard_answer()
            self._cancel_legs(aborts=True)
            return None
        else:
            self._answering = leg
            self._merge = None
            self._cancel_other(leg)
        if self._merge is not None:
            return self._merge_sink(leg, head, self._merge)
        return self._payload_sink_for_answer(head) if leg is self._answering else None

    def _merge_sink(self, leg: Leg, head: ResponseHead, merge: LogprobMerge) -> PayloadSink:
        self._reframes = True
        if leg is self._prefill:
            return merge.feed_prefill
        self._meter_for_answer(head)
        return merge.feed_decode

    def leg_whole(self, leg: Leg, head: ResponseHead, body: bytes) -> None:
        """See LegOwner."""
        if head.status >= 500 and not self._has_answered:
            self._note_failure(body)
        if head.status >= 300 or self._merge is not None:
            self._leg_whole_in_steps(leg, head, body)
        elif leg is self._decode:
            self._answering = leg
            self._answer_whole(head, body)
        else:
            self._prefill_answered()

    def _leg_whole_in_steps(self, leg: Leg, head: ResponseHead, body: bytes) -> None:
        on_payload = self.leg_head(leg, head)
        if self._retry is not None:
            return
        if on_payload is not None:
            on_payload(body)
        self.leg_body(leg, body)
        self.leg_end(leg)

    def leg_body(self, leg: Leg, data: bytes) -> None:
        """See LegOwner."""
        if leg is self._answering and self._merge is None and not self._reframes:
            self._write(data)

    def leg_end(self, leg: Leg) -> None:
        """See LegOwner."""
        error = None if self._errors is None else self._errors.pop(leg, None)
        if error is not None:
            assert leg.head is not None
            self.leg_whole(leg, leg.head, bytes(error))
            return
        if self._merge is not None:
            if leg is self._prefill:
                self._merge.prefill_done()
            else:
                self._merge.decode_done()
            if self._merge.is_done:
                self._finish_merged()
        elif leg is self._answering:
            self._complete()
        else:
            self._prefill_answered()

    def _prefill_answered(self) -> None:
        if self._place is not None:
            self._place.prompt_computed()
        if self._client is None:
            self._forget()  # the prefill's answer was all that was left

    def leg_lost(self, leg: Leg, failure: LegFailure) -> None:
        """See LegOwner."""
        if leg is self._prefill and self._client is None:
            self._forget()
            return
        is_drained = leg is self._prefill and leg is not self._answering and self._merge is None
        if is_drained and self._has_answered:
            return  # the decode is answering, so the hand-off has happened
        if leg.was_sent:
            self._num_lost += 1
        self._cancel_legs(aborts=True)
        if not self._retries(leg.worker, None):
            self.answer_error(HandoffError(lost_message(leg, failure), code=_code(failure)))

    # --- merged log probabilities ---

    def _emit_merged(self, payload: bytes) -> None:
        if not payload:
            return
        self._measure(payload)
        if not self.request.is_http_10:
            payload = b"%x\r\n%b\r\n" % (len(payload), payload)
        self._write(payload)

    def _answer_head(self, extra_lines: bytes) -> bytes:
        if not self.service.pairs.is_settled:
            self._note_success()
        if self._merge is not None and not self.request.is_http_10:
            extra_lines += b"transfer-encoding: chunked\r\n"
        return super()._answer_head(extra_lines)

    def _finish_merged(self) -> None:
        if not self.request.is_http_10:
            self._write(b"0\r\n\r\n")
        self._complete()

    # --- ends ---

    def _forget(self) -> None:
        self._prefill = self._decode = self._merge = self._errors = None
        super()._forget()

    def _cancel_other(self, leg: Leg) -> None:
        other = self._decode if leg is self._prefill else self._prefill
        self._cancel_leg(other, aborts=True)

    def _cancel_leg(self, leg: Leg | None, *, aborts: bool) -> None:
        if self.service.pairs.has_trials:
            self._note_abandoned()
        if leg is None or leg.is_over:
            return
        if aborts and leg.was_sent:
            self.service.aborter.abort(leg.worker, _leg_rids(self._rid, self._num_prompts))
        leg.cancel()

    def _cancel_legs(self, *, aborts: bool) -> None:
        self._cancel_leg(self._prefill, aborts=aborts)
        self._cancel_leg(self._decode, aborts=aborts)

    def _settle(self) -> None:
        meter = self._meter
        # A stream that tells of a failed hand-off has one event, and perhaps its end.
        if meter is not None and meter.num_events <= 2 and meter.has_failed:
            self._note_failure(meter.tail)
            self._cancel_leg(self._prefill, aborts=True)
        if (
            self._prefill is not None
            and not self._prefill.is_over
            and self._answering is self._decode
        ):
            self.deadline_s = min(self.deadline_s, self.service.now_s() + _PREFILL_LINGER_S)
        else:
            super()._settle()

    def _suspect_legs(self) -> None:
        if self._prefill is not None and self._decode is not None and not self._has_answered:
            service = self.service
            service.pairs.doubted(
                self._prefill.worker.worker_id,
                self._decode.worker.worker_id,
                f"a request had no answer within {service.config.request_timeout_s:g} s",
                service.now_s(),
            )
        for leg in (self._prefill, self._decode):
            if leg is not None and not leg.is_over:
                self.service.registry.suspect(leg.worker)

    # --- what becomes of the pair's link ---

    def _note_success(self) -> None:
        """The decode's answer begins, unless it tells of a failure: the KV has arrived."""
        leg, meter = self._answering, self._meter
        assert self._prefill is not None
        if leg is not self._decode or leg is None or leg.head is None or leg.head.status >= 300:
            return
        if meter is None or not meter.has_failed:
            service = self.service
            service.pairs.succeeded(
                self._prefill.worker.worker_id, leg.worker.worker_id, service.now_s()
            )

    def _note_failure(self, answer: bytes) -> None:
        """A worker answers with an error: if the hand-off failed, neither is tried again first."""
        reason = handoff_failure(answer)
        if reason is None or self._prefill is None or self._decode is None:
            return
        prefill, decode = self._prefill.worker, self._decode.worker
        service = self.service
        service.pairs.failed(prefill.worker_id, decode.worker_id, reason, service.now_s())
        self._tried = (*self._tried, prefill, decode)

    def _note_abandoned(self) -> None:
        if self._prefill is not None and self._decode is not None:
            self.service.pairs.abandoned(
                self._prefill.worker.worker_id,
                self._decode.worker.worker_id,
                self.service.now_s(),
            )

    def _worker_lines(self) -> bytes:
        assert self._prefill is not None
        assert self._decode is not None
        return (
            f"x-hfx-prefill-worker: {self._prefill.worker.shown_url}\r\n"
            f"x-hfx-decode-worker: {self._decode.worker.shown_url}\r\n"
        ).encode()


def _ranked_bodies(
    body: bytes, members: bytes, prefill_rank: int | None, decode_rank: int | None
) -> tuple[bytes, bytes]:
    """Return the bodies for legs of which at least one goes to a data-parallel rank."""
    prefill_members = decode_members = members
    if prefill_rank is not None:
        prefill_members += b',"routed_dp_rank":%d' % prefill_rank
        decode_members += b',"disagg_prefill_dp_rank":%d' % prefill_rank
    if decode_rank is not None:
        decode_members += b',"routed_dp_rank":%d' % decode_rank
    return append_members(body, prefill_members), append_members(body, decode_members)


def _leg_rids(rid: str | list[str], num_prompts: int | None) -> tuple[str, ...]:
    """Return the ids under which SGLang knows the parts of a request; a batch has one for each."""
    if isinstance(rid, list):
        return tuple(rid[:_MAX_ABORT_CALLS])
    if num_prompts is None:
        return (rid,)
    return tuple(f"{rid}_{index}" for index in range(min(num_prompts, _MAX_ABORT_CALLS)))


def _length(head: ResponseHead) -> int:
    """Return the length of the body; -1 where the head does not tell."""
    return -1 if head.content_length is None else head.content_length


def _code(failure: LegFailure) -> str:
    """A worker that was never reached failed no hand-off."""
    return "upstream_unavailable" if failure is LegFailure.CONNECT else "kv_transfer_failed"
