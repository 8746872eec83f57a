"""The receiver's side of the control plane: every call ends within its limit, whoever answers."""

import contextlib
import os
from concurrent.futures import CancelledError
from typing import Self, TypeVar

import aiohttp
import msgspec

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.weights import manifest as manifests
from hfx_transfer.weights.chunks import from_bitmap
from hfx_transfer.weights.loop_thread import LoopThread
from hfx_transfer.weights.manifest import Manifest
from hfx_transfer.weights.wire import (
    CHUNKS_PATH,
    LEASE_PATH,
    MANIFEST_PATH,
    ChunkState,
    LeaseGrant,
    LeaseRequest,
    Refusal,
    unpack_bitmap,
)

_T = TypeVar("_T")

_MAX_ANSWER_BYTES = 4 << 20
"""A bitmap of 20 million chunks; all other answers are shorter, except for a manifest."""


class ControlClients:
    """The connections to several seeds, and the thread that they are driven by."""

    def __init__(self, *, token: str | None) -> None:
        self._thread = LoopThread("hfx-load-control")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._session = self._thread.run(self._open())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop all connections; calls that wait for an answer end as aborted."""
        with contextlib.suppress(CancelledError):
            self._thread.run(self._session.close())
        self._thread.close()

    def client(
        self, url: str, *, first_contact_timeout_s: float, timeout_s: float
    ) -> "ControlClient":
        """Return the client of one seed."""
        return ControlClient(
            self._thread,
            self._session,
            url,
            first_contact_timeout_s=first_contact_timeout_s,
            timeout_s=timeout_s,
        )

    async def _open(self) -> aiohttp.ClientSession:
        # No proxies from the environment and no redirections: weights come from whom was named.
        connector = aiohttp.TCPConnector(limit=0)
        return aiohttp.ClientSession(headers=self._headers, connector=connector)


class ControlClient:
    """Speaks to one seed. All methods raise TransferError; usable from several threads."""

    def __init__(
        self,
        thread: LoopThread,
        session: aiohttp.ClientSession,
        url: str,
        *,
        first_contact_timeout_s: float,
        timeout_s: float,
    ) -> None:
        self.url = url.rstrip("/")
        self._thread = thread
        self._session = session
        self._first_contact_timeout_s = first_contact_timeout_s
        self._timeout_s = timeout_s

    def manifest(self) -> Manifest:
        """Return what the seed has; this is the first contact."""
        data = self._call(
            "GET",
            MANIFEST_PATH,
            max_bytes=manifests.MAX_MANIFEST_BYTES,
            silence=TransferFault.FIRST_CONTACT_TIMEOUT,
        )
        return manifests.decode(data)

    def lease(self, manifest: Manifest) -> LeaseGrant:
        """Ask the seed to keep in place what the manifest describes."""
        asked = LeaseRequest(model_hash=manifest.model_hash, generation=manifest.generation)
        body = self._call("POST", LEASE_PATH, body=msgspec.json.encode(asked))
        return self._decode(body, LeaseGrant)

    def renew(self, lease_id: str) -> LeaseGrant:
        """Prolong a lease; says so when the weights are about to change."""
        return self._decode(self._call("PUT", f"{LEASE_PATH}/{lease_id}"), LeaseGrant)

    def release(self, lease_id: str) -> None:
        """Hand a lease back."""
        self._call("DELETE", f"{LEASE_PATH}/{lease_id}")

    def chunks(self, manifest: Manifest, *, num_known: int, wait_s: float) -> set[int] | None:
        """Return which chunks the seed has verified; None for all.

        Args:
            manifest: what they must be chunks of.
            num_known: how many are known already.
            wait_s: how long the seed holds its answer back while there are not more.
        """
        path = f"{CHUNKS_PATH}?known={num_known}&wait_s={wait_s:g}"
        state = self._decode(self._call("GET", path, extra_s=wait_s), ChunkState)
        if (state.generation, state.model_hash) != (manifest.generation, manifest.model_hash):
            raise self._error("holds other weights by now", TransferFault.GENERATION_CHANGED)
        num_chunks = len(manifest.digests)
        if state.num_verified == state.num_chunks == num_chunks:
            return None
        try:
            return from_bitmap(unpack_bitmap(state.bitmap), num_chunks)
        except ValueError as exc:
            raise self._error(f"chunks: {exc}", TransferFault.PROTOCOL) from exc

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        max_bytes: int = _MAX_ANSWER_BYTES,
        extra_s: float = 0.0,
        silence: TransferFault = TransferFault.STALLED,
    ) -> bytes:
        is_first = silence is TransferFault.FIRST_CONTACT_TIMEOUT
        limit_s = (self._first_contact_timeout_s if is_first else self._timeout_s) + extra_s
        request = self._request(method, path, body, max_bytes, limit_s)
        try:
            status, answer = self._thread.run(request)
        except CancelledError as exc:
            raise self._error("not needed any more", TransferFault.ABORTED) from exc
        except aiohttp.ConnectionTimeoutError as exc:
            raise self._error("no connection in time", TransferFault.UNREACHABLE) from exc
        except TimeoutError as exc:
            raise self._error(f"no answer within {limit_s:g} s", silence) from exc
        except aiohttp.ClientConnectorError as exc:
            number = exc.os_error.errno
            reason = os.strerror(number) if number else str(exc.os_error)
            raise self._error(f"no connection: {reason}", TransferFault.UNREACHABLE) from exc
        except aiohttp.ClientResponseError as exc:
            raise self._error("the answer is not HTTP", TransferFault.PROTOCOL) from exc
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
            raise self._error(f"hung up ({exc})", TransferFault.PEER_FAILED) from exc
        except (aiohttp.ClientError, ValueError) as exc:
            raise self._error(str(exc), TransferFault.PROTOCOL) from exc
        if status >= 400:
            raise self._refused(status, answer)
        return answer

    async def _request(
        self, method: str, path: str, body: bytes | None, max_bytes: int, limit_s: float
    ) -> tuple[int, bytes]:
        # `total` counts from here to the last byte, so an answer that trickles in is cut as well.
        timeout = aiohttp.ClientTimeout(total=limit_s, sock_connect=limit_s * 0.9)
        async with self._session.request(
            method, self.url + path, data=body, timeout=timeout, allow_redirects=False
        ) as response:
            answer = bytearray()
            async for part in response.content.iter_any():
                answer += part
                if len(answer) > max_bytes:
                    raise ValueError(f"the answer is longer than {max_bytes} bytes")
            return response.status, bytes(answer)

    def _decode(self, body: bytes, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as exc:
            raise self._error(f"{kind.__name__}: {exc}", TransferFault.PROTOCOL) from exc

    def _refused(self, status: int, answer: bytes) -> TransferError:
        try:
            refusal = msgspec.json.decode(answer, type=Refusal)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._error(f"answered with status {status}", TransferFault.PROTOCOL)
        return self._error(refusal.message, refusal.fault)

    def _error(self, what: str, fault: TransferFault) -> TransferError:
        return TransferError(f"{self.url}: {what}", fault=fault)
