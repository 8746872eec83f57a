"""Asks the server under test what it is and how its workers are doing."""

from collections.abc import Iterator
from http import HTTPStatus

import aiohttp
import orjson

from hfx_sgl.errors import LoadTestError
from hfx_sgl.results.run import WorkerSample

_TIMEOUT = aiohttp.ClientTimeout(total=10)


class ServerQuestions:
    """Small questions beside the load. Use it as an async context manager.

    Args:
        headers: sent with every question, such as an API key.
    """

    def __init__(self, base_url: str, headers: tuple[tuple[str, str], ...]) -> None:
        self._base_url = base_url
        self._headers = dict(headers)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "ServerQuestions":
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=_TIMEOUT)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def first_model(self) -> str:
        """Return the first model that the server lists.

        Raises:
            LoadTestError: it cannot be reached, or lists none.
        """
        status, content = await self._get("/v1/models")
        listed = content.get("data") if isinstance(content, dict) else None
        first = listed[0] if isinstance(listed, list) and listed else None
        model = first.get("id") if isinstance(first, dict) else None
        if status != HTTPStatus.OK or not isinstance(model, str):
            raise LoadTestError(
                f"{self._base_url}/v1/models names no model (HTTP {status}); pass --model"
            )
        return model

    async def worker_samples(self, at_s: float) -> list[WorkerSample] | None:
        """Return how each worker is doing; None when the server does not say."""
        try:
            status, content = await self._get("/v1/loads")
        except LoadTestError:
            return None
        listed = content.get("loads") if isinstance(content, dict) else None
        if status != HTTPStatus.OK or not isinstance(listed, list):
            return None
        return list(samples_of(listed, at_s))

    async def _get(self, path: str) -> tuple[int, object]:
        assert self._session is not None
        url = self._base_url + path
        try:
            async with self._session.get(url) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise LoadTestError(f"{url}: {str(exc) or type(exc).__name__}") from exc
        try:
            return answer.status, orjson.loads(content)
        except orjson.JSONDecodeError:
            return answer.status, None


def samples_of(loads: list[object], at_s: float) -> Iterator[WorkerSample]:
    """Yield a sample per entry of `loads` as `/v1/loads` lists them.

    A router names the worker of an entry and its role. A server's own list has one entry for each
    of its data-parallel ranks and calls the role by its disaggregation mode. Entries without the
    three figures are passed over.
    """
    for entry in loads:
        if not isinstance(entry, dict):
            continue
        running, waiting = entry.get("num_running_reqs"), entry.get("num_waiting_reqs")
        usage = entry.get("token_usage")
        if not (isinstance(running, int) and isinstance(waiting, int)):
            continue
        if not isinstance(usage, int | float):
            continue
        rank = entry.get("dp_rank")
        worker = entry.get("worker")
        yield WorkerSample(
            at_s=at_s,
            worker=str(worker if worker is not None else f"rank{rank or 0}"),
            role=str(entry.get("worker_type") or _mode(entry)),
            num_running_reqs=running,
            num_waiting_reqs=waiting,
            token_usage=float(usage),
        )


def _mode(entry: dict[str, object]) -> str:
    disaggregation = entry.get("disaggregation")
    mode = disaggregation.get("mode") if isinstance(disaggregation, dict) else None
    return mode if mode in ("prefill", "decode") else "regular"
