"""The workers' own load numbers, gathered."""

from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus

from fastapi import APIRouter, Depends, Request, Response

from hfx_router.control.answers import json_response, relay
from hfx_router.control.context import context_of
from hfx_router.control.fanout import Asked, ask_each, problems, with_query
from hfx_router.control.guard import require_key
from hfx_router.workers.worker import Worker

router = APIRouter(dependencies=[Depends(require_key)])

UNKNOWN_LOAD = -1
"""How the wire contract says that a worker's load could not be had."""

Entry = dict[str, object]


@router.api_route("/get_loads", methods=["GET", "HEAD"])
@router.api_route("/v1/loads", methods=["GET", "HEAD"])
async def get_loads(request: Request) -> Response:
    """Ask every registered worker, usable or not; who does not answer is named in `errors`."""
    context = context_of(request)
    workers = context.registry.workers
    asked = await ask_each(
        context.session,
        workers,
        with_query("/v1/loads", request.url.query),
        timeout_s=context.timeouts.loads_s,
    )
    if asked and all(_refuses_query(each) for each in asked):
        return relay(asked[0].answer)
    entries: dict[str, list[Entry]] = {}
    errors = problems(asked)
    heads: list[Entry] = []
    for worker, answer in asked:
        if not answer.is_ok:
            continue
        content = answer.json_object()
        listed = None if content is None else content.get("loads")
        if content is None or not isinstance(listed, list):
            errors[worker.spec.url] = "the answer has no list `loads`"
            continue
        heads.append(content)
        entries[worker.base_url] = [entry for entry in listed if isinstance(entry, dict)]
    now = datetime.fromtimestamp(context.unix_time_s(), UTC)
    return json_response(
        {
            "timestamp": now.isoformat(),
            **_common(heads),
            "loads": _label(workers, entries),
            "workers": [
                {"worker": worker.shown_url, "load": _load(worker, entries.get(worker.base_url))}
                for worker in workers
            ],
            "errors": errors,
        }
    )


def _refuses_query(asked: Asked) -> bool:
    """Return whether the worker blames the client's query string."""
    return asked.answer.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)


def _common(heads: list[Entry]) -> Entry:
    """Merge the fields beside `loads`; differing values are joined, devices added up."""
    counts = [head.get("num_accelerators") for head in heads]
    return {
        "version": _joined(head.get("version") for head in heads),
        "accelerator": _joined(head.get("accelerator") for head in heads),
        "num_accelerators": sum(count for count in counts if isinstance(count, int)),
    }


def _joined(values: Iterable[object]) -> str | None:
    names = sorted({value for value in values if isinstance(value, str)})
    return ",".join(names) or None


def _label(workers: tuple[Worker, ...], entries: dict[str, list[Entry]]) -> list[Entry]:
    """Return every entry with the worker that it belongs to."""
    labelled: list[Entry] = []
    for base_url, listed in entries.items():
        records = [worker for worker in workers if worker.base_url == base_url]
        for entry in listed:
            owners = [worker for worker in records if _owns(worker, entry)]
            owner = (owners or records)[0]
            labelled.append(
                entry
                | {
                    "worker": owner.shown_url,
                    "worker_id": owner.worker_id,
                    "worker_type": owner.role,
                }
            )
    return labelled


def _owns(worker: Worker, entry: Entry) -> bool:
    return worker.spec.dp_rank is None or entry.get("dp_rank") == worker.spec.dp_rank


def _load(worker: Worker, listed: list[Entry] | None) -> int:
    """Return the tokens that a worker holds, waiting ones included."""
    tokens = [entry.get("num_total_tokens") for entry in listed or [] if _owns(worker, entry)]
    known = [count for count in tokens if isinstance(count, int)]
    return sum(known) if known else UNKNOWN_LOAD
