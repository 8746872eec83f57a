"""What the two sides of the control plane say to each other, as JSON over HTTP.

    GET    /manifest     -> Manifest
    POST   /lease        LeaseRequest -> LeaseGrant
    PUT    /lease/{id}   -> LeaseGrant
    DELETE /lease/{id}   -> 204
    GET    /metrics      -> Prometheus text, where the seed's process counts
    GET    /chunks       -> ChunkState; ?known=N&wait_s=S holds it back until it is not N verified

Refusals are a Refusal with a status of 400 or above.
"""

from base64 import b64decode, b64encode
from http import HTTPStatus

import msgspec

from hfx_sgl.errors import TransferFault

MANIFEST_PATH = "/manifest"
LEASE_PATH = "/lease"
CHUNKS_PATH = "/chunks"
METRICS_PATH = "/metrics"

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

LONGEST_WAIT_S = 30.0
"""A seed holds no answer back for longer, whatever it is asked."""

STATUS_OF = {
    TransferFault.UNAUTHORIZED: HTTPStatus.UNAUTHORIZED,
    TransferFault.GENERATION_CHANGED: HTTPStatus.CONFLICT,
    TransferFault.LEASE_EXPIRED: HTTPStatus.GONE,
    TransferFault.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    TransferFault.PROTOCOL: HTTPStatus.BAD_REQUEST,
}
"""The faults that a seed answers with."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was refused."""

    fault: TransferFault
    message: str


class LeaseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which weights are to be kept in place."""

    model_hash: str
    generation: int


class LeaseGrant(msgspec.Struct, frozen=True, kw_only=True):
    """A lease, new or prolonged."""

    lease_id: str
    duration_s: float
    """How long it runs from this answer on."""


class ChunkState(msgspec.Struct, frozen=True, kw_only=True):
    """Which chunks a seed has verified."""

    model_hash: str
    generation: int
    num_chunks: int
    num_verified: int
    bitmap: str
    """Base64 of one bit for each chunk; empty when all are there."""


def pack_bitmap(bitmap: bytes) -> str:
    """Return the text of a bitmap."""
    return b64encode(bitmap).decode()


def unpack_bitmap(text: str) -> bytes:
    """Return the bitmap of a text.

    Raises:
        ValueError: it is none.
    """
    return b64decode(text, validate=True)
