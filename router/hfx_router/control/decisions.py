"""Why the last requests went where they went."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from hfx_router.control.answers import json_response
from hfx_router.control.context import ControlContext, context_of
from hfx_router.control.guard import require_viewer
from hfx_router.metrics.class_labels import shown_class
from hfx_router.scheduling.explain import rendered
from hfx_router.scheduling.journal import Journal, Story
from hfx_sgl.errors import NotFoundError
from hfx_sgl.policy.scheduler.decision import Decision, Reason

router = APIRouter(dependencies=[Depends(require_viewer)])

_DEFAULT_LIMIT = 20
"""A screenful or two."""


class Wanted(BaseModel):
    """Which decisions; None: any."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(_DEFAULT_LIMIT, ge=1)
    class_name: str | None = Field(None, alias="class", min_length=1)
    reason: Reason | None = None
    request_id: str | None = Field(None, min_length=1)

    def has(self, decision: Decision, story: Story) -> bool:
        """Whether it is one of them."""
        return (
            self.class_name in (None, shown_class(decision.class_name))
            and self.reason in (None, decision.reason)
            and self.request_id in (None, story.shown_request_id)
        )


@router.api_route("/debug/decisions", methods=["GET", "HEAD"])
async def list_decisions(request: Request, wanted: Annotated[Wanted, Query()]) -> Response:
    """Explain the last decisions of the scheduler, newest first."""
    context = context_of(request)
    journal = _journal(context)
    found = (pair for pair in journal.newest_first() if wanted.has(*pair))
    at = _instants(context, journal)
    return json_response(
        {
            "max_kept": journal.max_kept,
            "decisions": [
                rendered(decision, story, at(decision.at_s), context.worker_name)
                for decision, story in islice(found, wanted.limit)
            ],
        }
    )


def _journal(context: ControlContext) -> Journal:
    journal = context.journal
    if journal is None:
        raise NotFoundError(
            "there are no decisions to explain: workers are chosen by another policy than hfx "
            "(--policy, --prefill-policy, --decode-policy)"
        )
    if not journal.max_kept:
        raise NotFoundError("no decisions are kept (--debug-decisions 0)")
    return journal


def _instants(context: ControlContext, journal: Journal) -> Callable[[float], str]:
    """Return what turns an instant of the router's clock into the time of day."""
    offset_s = context.unix_time_s() - journal.now_s()

    def at(at_s: float) -> str:
        return datetime.fromtimestamp(offset_s + at_s, UTC).isoformat(timespec="milliseconds")

    return at
