"""Asks several workers the same question at once. Every worker's outcome comes back."""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

import aiohttp

from hfx_router.workers.ask import Answer, ask, bearer
from hfx_router.workers.worker import Worker


class Asked(NamedTuple):
    """A worker and what it said."""

    worker: Worker
    answer: Answer


def one_per_server(workers: Iterable[Worker]) -> list[Worker]:
    """Return the first record of each server: its data-parallel ranks would answer the same."""
    by_server: dict[str, Worker] = {}
    for worker in workers:
        by_server.setdefault(worker.base_url, worker)
    return list(by_server.values())


async def ask_worker(
    session: aiohttp.ClientSession,
    worker: Worker,
    path: str,
    *,
    timeout_s: float,
    method: str = "GET",
    authorization: str | None = None,
) -> Answer:
    """Ask one worker; the client's Authorization goes before the worker's own key."""
    return await ask(
        session,
        method,
        worker.base_url + path,
        timeout_s=timeout_s,
        authorization=authorization or bearer(worker.spec.api_key),
    )


async def ask_each(
    session: aiohttp.ClientSession,
    workers: Iterable[Worker],
    path: str,
    *,
    timeout_s: float,
    method: str = "GET",
    authorization: str | None = None,
) -> list[Asked]:
    """Ask every server of `workers` concurrently and return the outcomes in their order."""
    servers = one_per_server(workers)
    answers = await asyncio.gather(
        *(
            ask_worker(
                session,
                worker,
                path,
                timeout_s=timeout_s,
                method=method,
                authorization=authorization,
            )
            for worker in servers
        )
    )
    return [Asked(worker, answer) for worker, answer in zip(servers, answers, strict=True)]


def problems(asked: Iterable[Asked]) -> dict[str, str]:
    """Return what went wrong, by the worker's URL, for those that did not answer 200."""
    return {worker.spec.url: answer.problem for worker, answer in asked if not answer.is_ok}


def with_query(path: str, query: str) -> str:
    """Return `path` with the client's query string, when it sent one."""
    return f"{path}?{query}" if query else path
