"""The workers' Prometheus metrics on one page, each sample labelled with its worker."""

import asyncio
from collections.abc import Iterable, Sequence

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from hfx_router.control.context import context_of
from hfx_router.control.fanout import ask_each, problems
from hfx_router.control.guard import require_key
from hfx_router.control.models import no_usable_worker
from hfx_sgl.errors import UpstreamError

router = APIRouter(dependencies=[Depends(require_key)])

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@router.api_route("/engine_metrics", methods=["GET", "HEAD"])
async def engine_metrics(request: Request) -> Response:
    """Merge /metrics of every registered worker; who does not answer is named in a comment."""
    context = context_of(request)
    asked = await ask_each(
        context.session,
        context.registry.workers,
        "/metrics",
        timeout_s=context.timeouts.metrics_s,
    )
    if not asked:
        raise no_usable_worker(context)
    pages = [(worker.spec.url, answer.body) for worker, answer in asked if answer.is_ok]
    # Pages of many workers take a while to parse; the byte path must not wait for it.
    text, unreadable = await asyncio.to_thread(merge_pages, pages)
    errors = problems(asked) | unreadable
    if len(errors) == len(asked):
        raise UpstreamError(f"no worker gave its metrics: {errors}")
    notes = "".join(f"# {url}: {' '.join(error.split())}\n" for url, error in errors.items())
    return Response(text + notes.encode(), media_type=CONTENT_TYPE)


class _Page(Collector):
    """Metric families that are there already, for the exposition format."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def merge_pages(pages: Sequence[tuple[str, bytes]]) -> tuple[bytes, dict[str, str]]:
    """Merge (worker URL, page) pairs into one page; also return the unreadable ones and why.

    Samples get the label `worker_addr`. Colons in names become underscores, as in
    sglang-router: Prometheus reserves them for recording rules.
    """
    merged: dict[str, Metric] = {}
    unreadable: dict[str, str] = {}
    for url, page in pages:
        try:
            families = list(text_string_to_metric_families(page.decode()))
        except ValueError as exc:
            unreadable[url] = f"unreadable metrics: {exc}"
            continue
        for family in families:
            name = family.name.replace(":", "_")
            target = merged.setdefault(name, Metric(name, family.documentation, family.type))
            for sample in family.samples:
                target.samples.append(
                    sample._replace(
                        name=sample.name.replace(":", "_"),
                        labels=sample.labels | {"worker_addr": url},
                    )
                )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(merged.values()))
    return generate_latest(registry), unreadable
