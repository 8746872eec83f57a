"""One question to one worker, outside the byte path. Every failure is a value."""

from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
import orjson

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Enough for /metrics of a large server (a few MB); bounds what a broken worker makes us hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a worker said, or why there is nothing."""

    status: int | None = None
    """None when no complete answer came."""
    content_type: str = "application/octet-stream"
    body: bytes = b""
    failure: str | None = None
    """Why no complete answer came; None when one did."""

    @property
    def is_ok(self) -> bool:
        """Whether the worker answered 200."""
        return self.status == HTTPStatus.OK

    @property
    def problem(self) -> str:
        """One sentence for people: the failure, or the status when it is not 200."""
        return self.failure or f"answered {self.status}"

    def json_object(self) -> dict[str, object] | None:
        """Return the body when it is a JSON object, otherwise None."""
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None
        return value if isinstance(value, dict) else None


def control_session() -> aiohttp.ClientSession:
    """Return the session for probes and control calls; the caller closes it.

    Each call gets its own connection. They are rare, a fresh connect also proves that the
    worker still accepts, and a server that closes idle connections (uvicorn: after 5 s)
    cannot spoil one. Proxies from the environment and cookies do not apply to workers.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


def bearer(api_key: str | None) -> str | None:
    """Return the Authorization header for a key; None when there is none."""
    return None if api_key is None else f"Bearer {api_key}"


async def ask(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    timeout_s: float,
    authorization: str | None = None,
    max_bytes: int = MAX_ANSWER_BYTES,
) -> Answer:
    """Send a request without a body and return the whole answer; redirects are not followed."""
    headers = {} if authorization is None else {"authorization": authorization}
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with session.request(
            method, url, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > max_bytes:
                    return Answer(failure=f"the answer exceeds {max_bytes} bytes")
            content_type = response.headers.get("content-type", "application/octet-stream")
            return Answer(status=response.status, content_type=content_type, body=bytes(body))
    except TimeoutError:
        return Answer(failure=f"no answer within {timeout_s:g} s")
    except (aiohttp.ClientError, OSError) as exc:
        return Answer(failure=f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__)
