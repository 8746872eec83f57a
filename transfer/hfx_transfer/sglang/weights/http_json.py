"""One JSON question to a server, answered within a limit however slowly the bytes come."""

import http.client
import json
import socket
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from hfx_sgl.errors import TransferError, TransferFault

MAX_ANSWER_BYTES = 256 << 20
"""Addresses of ten thousand tensors, or digests of them, take a few MiB."""

_UNAUTHORIZED = (401, 403)


def ask_json(url: str, path: str, *, timeout_s: float, body: Any = None) -> Any:
    """GET, or POST when there is a body, and return the answer of a server at `url`.

    Raises:
        TransferError: nobody answers (unreachable), not in time (first_contact_timeout), with a
            status of refusal (unauthorized) or of anything else (peer_failed), or not with
            JSON (protocol).
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    expired = threading.Event()
    try:
        connection.connect()
        # A socket's own limit begins anew with each byte; this one ends all at once.
        timer = threading.Timer(timeout_s, _cut, (connection.sock, expired))
        timer.daemon = True
        timer.start()
        try:
            status, data = _exchange(connection, parts.path.rstrip("/") + path, body)
        finally:
            timer.cancel()
        if expired.is_set():
            raise TimeoutError
    except (OSError, http.client.HTTPException) as exc:
        if expired.is_set() or isinstance(exc, TimeoutError):
            raise TransferError(
                f"{path} was not answered within {timeout_s:g} s",
                fault=TransferFault.FIRST_CONTACT_TIMEOUT,
            ) from exc
        if isinstance(exc, OSError):
            why = exc.strerror or str(exc) or type(exc).__name__
            raise TransferError(f"{path}: {why}", fault=TransferFault.UNREACHABLE) from exc
        raise TransferError(
            f"{path} is not answered with HTTP ({exc!r})", fault=TransferFault.PROTOCOL
        ) from exc
    finally:
        connection.close()
    return _parsed(path, status, data)


def _exchange(connection: http.client.HTTPConnection, path: str, body: Any) -> tuple[int, bytes]:
    if body is None:
        connection.request("GET", path)
    else:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body).encode(), headers)
    response = connection.getresponse()
    return response.status, response.read(MAX_ANSWER_BYTES)


def _cut(connected: socket.socket, expired: threading.Event) -> None:
    expired.set()
    with suppress(OSError):  # The other side was faster.
        connected.shutdown(socket.SHUT_RDWR)


def _parsed(path: str, status: int, data: bytes) -> Any:
    if status in _UNAUTHORIZED:
        raise TransferError(
            f"{path} is answered with {status}: it wants a key", fault=TransferFault.UNAUTHORIZED
        )
    if status != http.client.OK:
        detail = data[:200].decode(errors="replace")
        raise TransferError(
            f"{path} is answered with {status} {detail}".rstrip(), fault=TransferFault.PEER_FAILED
        )
    try:
        return json.loads(data)
    except ValueError as exc:
        raise TransferError(
            f"{path} is not answered with JSON", fault=TransferFault.PROTOCOL
        ) from exc
