"""One request's place with the scheduler: found on its first attempt, given up with its end."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from msgspec import Struct

from hfx_router.estimates.known_hits import known_hit_tokens
from hfx_router.estimates.prompts import PromptEstimate, PromptEstimates, Question
from hfx_router.estimates.tokenizer import PromptText
from hfx_router.scheduling.dispatcher import Applicant, Dispatcher
from hfx_router.scheduling.journal import Journal
from hfx_router.workers.worker import Worker
from hfx_sgl.policy.estimates.kv_blocks import BlockIndex
from hfx_sgl.policy.prefix_index import BLOCK_BYTES, block_digests
from hfx_sgl.policy.scheduler.facts import RequestFacts
from hfx_sgl.slo import Slo

_NOBODY: frozenset[str] = frozenset()


class AnswerFacts(NamedTuple):
    """What a complete answer says; None where it does not."""

    num_output_tokens: int | None
    num_prompt_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What all requests need to get their places. Built once by the composition root."""

    dispatcher: Dispatcher
    journal: Journal
    estimates: PromptEstimates
    cached: BlockIndex
    """What workers have cached, by their own word."""


class Wish(Struct, frozen=True, gc=False):
    """What a request asks for."""

    request_id: bytes
    """As its client knows it."""
    model: str
    class_name: str
    arrived_at_s: float
    slo: Slo
    prompt: PromptText
    is_batch: bool
    """Several prompts in one request. Its answer does not state the length of all of them."""
    max_output_tokens: int | None
    is_stream: bool
    is_pd: bool
    """Whether prefill and decode workers are apart."""
    tenant: str


class Place:
    """See the module. Calls come from the exchange; the applicant is the exchange itself."""

    __slots__ = (
        "_applicant", "_desk", "_estimate", "_is_prefill_seen", "_is_prefill_told", "_question",
        "_ticket", "_tried", "_wish",
    )  # fmt: skip

    def __init__(self, desk: Desk, applicant: Applicant, wish: Wish) -> None:
        self._desk = desk
        self._applicant = applicant
        self._wish = wish
        self._estimate: PromptEstimate | None = None
        self._question: Question | None = None
        self._ticket: str | None = None
        self._is_prefill_seen = wish.is_pd or wish.is_stream
        """Whether the end of its prefill shows: not in an answer of a unified worker in one
        piece."""
        self._is_prefill_told = False
        self._tried = _NOBODY

    def take(self, tried: Collection[Worker]) -> None:
        """Have the request sent, rather not to workers where it has failed."""
        self._tried = frozenset([worker.worker_id for worker in tried]) if tried else _NOBODY
        self._is_prefill_told = not self._is_prefill_seen
        if self._estimate is not None:
            self._apply(self._estimate)
            return
        wish = self._wish
        self._question = self._desk.estimates.ask(
            wish.model, wish.class_name, wish.prompt, self._apply
        )

    def _apply(self, estimate: PromptEstimate) -> None:
        self._question = None
        self._estimate = estimate
        desk = self._desk
        self._ticket = ticket = desk.dispatcher.draw_ticket()
        facts = self._facts(ticket, estimate)
        desk.journal.applied(facts, self._wish.request_id)
        desk.dispatcher.apply(self._applicant, facts)

    def _facts(self, ticket: str, estimate: PromptEstimate) -> RequestFacts:
        wish = self._wish
        prompt_json = wish.prompt.prompt_json
        num_bytes = len(prompt_json)
        return RequestFacts(
            ticket,
            wish.class_name,
            wish.arrived_at_s,
            wish.slo,
            estimate.num_tokens,
            wish.max_output_tokens,
            block_digests(prompt_json) if num_bytes >= BLOCK_BYTES else (),
            BLOCK_BYTES * estimate.num_tokens / (num_bytes or 1),
            known_hit_tokens(self._desk.cached, estimate, prompt_json),
            self._is_prefill_seen,
            wish.tenant,
            self._tried,
        )

    def prompt_computed(self) -> None:
        """The prefill has ended, as far as can be seen. May be said again."""
        if self._ticket is not None and not self._is_prefill_told:
            self._is_prefill_told = True
            self._desk.dispatcher.prefill_over(self._ticket)

    def first_token(self) -> None:
        """The answer has begun, and is a stream."""
        if self._ticket is None:
            return
        self.prompt_computed()
        if self._wish.is_pd:
            self._desk.dispatcher.first_token(self._ticket)

    def give_up(self) -> None:
        """The attempt has failed; `take` may follow."""
        if self._ticket is not None:
            ticket, self._ticket = self._ticket, None
            self._desk.journal.given_up(ticket)
            self._desk.dispatcher.over(ticket, None)

    def ended(
        self,
        status: int,
        answer: AnswerFacts | None,
        stream: tuple[float, float | None] | None,
        is_met: bool | None,
    ) -> None:
        """The request has ended.

        Args:
            status: of its answer; 499 when the client left.
            answer: of a worker that answered to the end; None where none did.
            stream: see `Journal.ended`.
            is_met: whether its promise was kept; None where nobody can say.
        """
        if self._question is not None:
            self._question.withdraw()
            self._question = None
        if self._ticket is None:
            return
        ticket, self._ticket = self._ticket, None
        desk = self._desk
        desk.journal.ended(ticket, status, stream, is_met)
        num_tokens = None if answer is None else answer.num_output_tokens
        decode_s = None
        if num_tokens and stream is not None and stream[1] is not None:
            decode_s = stream[1] * (num_tokens - 1)
        desk.dispatcher.over(ticket, num_tokens, decode_s)
        if answer is not None and answer.num_prompt_tokens and not self._wish.is_batch:
            self._learn_length(answer.num_prompt_tokens)

    def _learn_length(self, num_prompt_tokens: int) -> None:
        wish = self._wish
        assert self._estimate is not None
        self._desk.estimates.observe(wish.model, wish.class_name, self._estimate, num_prompt_tokens)
