"""The application of the metrics port: `GET /metrics` and nothing else.

It shares the event loop with the byte path, so it renders family by family and lets waiting
work run in between, and it compresses in a thread (zlib releases the interpreter lock).
"""

import asyncio
import gzip
from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_OPENMETRICS_END = b"# EOF\n"

# Level 1 halves the time of level 6 and still shrinks metrics text more than tenfold.
_COMPRESSION_LEVEL = 1


class _OneFamily:
    """A registry with a single family, for encoders that want a registry."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def create_metrics_app(registry: CollectorRegistry) -> Starlette:
    """Build the ASGI application that serves `registry`; other paths are 404, other methods 405."""
    return Starlette(routes=[Route("/metrics", partial(_metrics, registry), methods=["GET"])])


async def _metrics(registry: CollectorRegistry, request: Request) -> Response:
    encode, content_type = _encoder(request.headers.get("accept", ""))
    body = await render(registry, encode)
    headers = {"content-type": content_type, "vary": "accept, accept-encoding"}
    if gzip_accepted(request.headers.get("accept-encoding", "")):
        body = await asyncio.to_thread(gzip.compress, body, _COMPRESSION_LEVEL)
        headers["content-encoding"] = "gzip"
    return Response(body, headers=headers)


async def render(registry: CollectorRegistry, encode: Callable[[Collector], bytes]) -> bytes:
    """Encode all families, one in each turn of the event loop."""
    parts: list[bytes] = []
    end = b""
    for family in registry.collect():
        part = encode(_OneFamily(family))
        if part.endswith(_OPENMETRICS_END):
            part, end = part.removesuffix(_OPENMETRICS_END), _OPENMETRICS_END
        parts.append(part)
        await asyncio.sleep(0)
    return b"".join([*parts, end])


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):
        # A version parameter that is no version; the oldest text format suits every scraper.
        return choose_encoder("")
