"""Turns what somebody names as sources into servers: a router stands for its workers."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.sglang.weights.http_json import ask_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Somebody from whom weights are not taken."""

    url: str
    reason: str
    """One line for people."""


def url_problem(url: str) -> str | None:
    """Return what is wrong with a URL as such; None when it names a host and a port."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and parts.hostname and parts.port is not None
    except ValueError:
        is_good = False
    return None if is_good else f"{url!r} is not like http://HOST:PORT"


def find_servers(urls: Sequence[str], *, timeout_s: float) -> tuple[list[str], list[Rejected]]:
    """Return the servers behind `urls`, each once and in order, and what could not be asked."""
    with ThreadPoolExecutor(max_workers=len(urls) or 1) as pool:
        found = list(pool.map(lambda url: _behind(url, timeout_s), urls))
    servers = [url for urls_behind, _ in found for url in urls_behind]
    rejected = {each.url: each for _, refusals in found for each in refusals}
    kept = [url for url in dict.fromkeys(servers) if url not in rejected]
    return kept, list(rejected.values())


def _behind(url: str, timeout_s: float) -> tuple[list[str], list[Rejected]]:
    url = url.rstrip("/")
    try:
        answer = ask_json(url, "/workers", timeout_s=timeout_s)
    except TransferError as exc:
        if exc.fault in (TransferFault.PEER_FAILED, TransferFault.PROTOCOL):
            # No router: SGLang has no such path.
            return [url], []
        return [], [Rejected(url=url, reason=str(exc))]
    workers = answer.get("workers") if isinstance(answer, dict) else None
    if not isinstance(workers, list):
        return [url], []
    servers, rejected = [], []
    for worker in workers:
        worker_url = str(worker.get("url", "")).rstrip("/")
        reason = _against_worker(worker)
        if url_problem(worker_url) is None and reason is None:
            servers.append(worker_url)
        else:
            rejected.append(Rejected(url=worker_url, reason=reason or "no URL"))
    return servers, rejected


def _against_worker(worker: dict[str, Any]) -> str | None:
    if worker.get("is_draining"):
        return "the router is taking it out of service"
    if not worker.get("is_healthy", True):
        return "the router holds it for unhealthy"
    return None
