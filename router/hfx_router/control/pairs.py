"""Which pairs of workers get requests, and why others do not."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from hfx_transfer.sglang.pairs.compatibility import judge
from pydantic import BaseModel, ConfigDict, Field

from hfx_router.control.answers import json_response
from hfx_router.control.context import ControlContext, context_of
from hfx_router.control.guard import require_viewer
from hfx_router.workers.worker import Worker
from hfx_sgl.errors import NotFoundError
from hfx_sgl.policy.pairs.book import PairBook, PairStanding
from hfx_sgl.policy.pairs.link import LinkState
from hfx_sgl.types import Role

router = APIRouter(dependencies=[Depends(require_viewer)])

_DEFAULT_LIMIT = 100
"""A pool of ten by ten; larger ones are asked for what is wrong in them."""

JsonObject = dict[str, object]


class Wanted(BaseModel):
    """Which pairs; None: any."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(_DEFAULT_LIMIT, ge=1)
    state: LinkState | None = None
    usable: bool | None = None

    def has(self, pair: PairStanding, is_usable: bool) -> bool:
        """Whether it is one of them."""
        return self.state in (None, pair.state) and self.usable in (None, is_usable)


@router.api_route("/debug/pairs", methods=["GET", "HEAD"])
async def list_pairs(request: Request, wanted: Annotated[Wanted, Query()]) -> Response:
    """Show the pairs of workers: whether they fit, and how the link between them does."""
    context = context_of(request)
    book = context.pairs
    if book is None:
        raise NotFoundError(
            "no pairs are watched: the router serves unified workers, or runs with "
            "--disable-pair-checks"
        )
    return json_response(
        {
            "counts": book.counts(),
            "pairs": list(islice(_shown(context, book, wanted), wanted.limit)),
        }
    )


def _shown(context: ControlContext, book: PairBook, wanted: Wanted) -> Iterator[JsonObject]:
    pool = [worker for worker in context.registry.workers if worker.is_probed]
    for prefill in pool:
        for decode in pool if prefill.role is Role.PREFILL else ():
            if decode.role is not Role.DECODE:
                continue
            pair = book.standing(prefill.worker_id, decode.worker_id)
            is_usable = book.problem(*pair[:2]) is None
            if wanted.has(pair, is_usable):
                yield _pair_json(context, prefill, decode, pair, is_usable)


def _pair_json(
    context: ControlContext, prefill: Worker, decode: Worker, pair: PairStanding, is_usable: bool
) -> JsonObject:
    notes: tuple[str, ...] = ("nobody has said with whom it can exchange KV",)
    if prefill.pairing is not None and decode.pairing is not None:
        notes = judge(prefill.pairing, decode.pairing).notes
    return {
        "prefill": prefill.shown_url,
        "decode": decode.shown_url,
        "usable": is_usable,
        "problem": pair.problem or None,
        "link": pair.state,
        "reason": pair.reason or None,
        "since": _instant(context, pair.since_s),
        "tried_again_at": _instant(context, pair.due_at_s),
        "failures_in_a_row": pair.num_failures,
        "notes": notes,
    }


def _instant(context: ControlContext, at_s: float | None) -> str | None:
    """Return the time of day of an instant of the router's clock."""
    if at_s is None:
        return None
    at_unix_s = context.unix_time_s() + at_s - context.now_s()
    return datetime.fromtimestamp(at_unix_s, UTC).isoformat(timespec="milliseconds")
