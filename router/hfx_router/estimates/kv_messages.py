"""Reads what SGLang publishes about its KV cache: where, and the messages themselves.

A message has three parts: topic, number (8 bytes, big-endian) and a msgpack array of a time stamp,
the events and a rank. Events are maps whose `type` names them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from hfx_router.workers.worker import Worker
from hfx_sgl.policy.estimates.kv_blocks import RemovedBlocks, StoredBlocks

_WILDCARD_HOSTS = frozenset(("*", "0.0.0.0", "::", "[::]"))
_NUMBER_BYTES = 8
_SLICE_BLOCKS = 512

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class KvSource:
    """Where a worker tells of its cache."""

    endpoint: str
    replay_endpoint: str | None
    """Where to ask for what was said before; None where the worker does not keep it."""
    topic: bytes
    block_tokens: int


class _Described(msgspec.Struct):
    """`kv_events` of `/server_info`."""

    publisher: str
    endpoint_host: str
    endpoint_port_base: int
    block_size: Annotated[int, msgspec.Meta(ge=1)]
    topic: str = ""
    dp_size: int = 1
    replay_endpoint_port_base: int | None = None


def kv_source(worker: Worker) -> KvSource | None:
    """Return where to hear of a worker's cache; None when it does not tell, or has several.

    A server with data-parallel ranks has a cache for each: only its ranks can be followed.
    """
    described = worker.metadata.get("kv_events")
    if described is None:
        return None
    try:
        source = msgspec.convert(described, _Described)
    except msgspec.ValidationError:
        return None
    rank = worker.spec.dp_rank
    if source.publisher != "zmq" or (rank is None and source.dp_size > 1):
        return None
    host = source.endpoint_host
    if host in _WILDCARD_HOSTS:
        host = worker.bootstrap_host
    replay_port = source.replay_endpoint_port_base
    return KvSource(
        endpoint=f"tcp://{host}:{source.endpoint_port_base + (rank or 0)}",
        replay_endpoint=None
        if replay_port is None
        else f"tcp://{host}:{replay_port + (rank or 0)}",
        topic=source.topic.encode(),
        block_tokens=source.block_size,
    )


class _Event(msgspec.Struct, tag=True, tag_field="type"):
    """Base of the events."""


class BlockStored(_Event):
    """Blocks came into the cache."""

    block_hashes: list[_Int64]
    token_ids: list[_Int64]
    parent_block_hash: _Int64 | None = None
    medium: str | None = None
    cache_salt: str | None = None
    lora_id: Any = None
    lora_name: str | None = None


class BlockRemoved(_Event):
    """Blocks left the cache."""

    block_hashes: list[_Int64]
    medium: str | None = None


class AllBlocksCleared(_Event):
    """The cache is empty."""


class _Batch(msgspec.Struct, array_like=True):
    stamp_s: float
    events: list[BlockStored | BlockRemoved | AllBlocksCleared]


@dataclass(frozen=True, slots=True, kw_only=True)
class KvMessage:
    """One message of a worker about its cache."""

    number: int
    stamp_s: float
    events: list[BlockStored | BlockRemoved | AllBlocksCleared]


_BATCH = msgspec.msgpack.Decoder(_Batch)


def read_message(parts: list[bytes]) -> KvMessage | None:
    """Decode a message from its last two parts; None is the end of a replay.

    Raises:
        ValueError: it is not what SGLang 0.5 writes.
    """
    if len(parts) < 2 or len(parts[-2]) != _NUMBER_BYTES:
        raise ValueError(f"a message of {len(parts)} parts without a number")
    number = int.from_bytes(parts[-2], "big", signed=True)
    if number < 0:
        return None
    try:
        batch = _BATCH.decode(parts[-1])
    except msgspec.DecodeError as exc:
        raise ValueError(str(exc)) from exc
    return KvMessage(number=number, stamp_s=batch.stamp_s, events=batch.events)


def replay_request(number: int) -> list[bytes]:
    """Return the question for all messages from `number` on."""
    return [b"", number.to_bytes(_NUMBER_BYTES, "big")]


def stored_slices(event: BlockStored, block_tokens: int) -> Iterator[StoredBlocks]:
    """Cut a run of blocks into pieces that take little time each.

    Blocks that are kept apart, for a salt or an adapter, are left out: requests that can use them
    are not looked up either.
    """
    if event.cache_salt is not None or event.lora_name is not None or event.lora_id is not None:
        return
    parent = event.parent_block_hash
    for start in range(0, len(event.block_hashes), _SLICE_BLOCKS):
        hashes = event.block_hashes[start : start + _SLICE_BLOCKS]
        first = start * block_tokens
        yield StoredBlocks(
            block_hashes=hashes,
            parent_hash=parent,
            token_ids=event.token_ids[first : first + len(hashes) * block_tokens],
            medium=event.medium or "GPU",
        )
        parent = hashes[-1]


def removed_blocks(event: BlockRemoved) -> RemovedBlocks:
    """Return the event in the terms of the index."""
    return RemovedBlocks(block_hashes=event.block_hashes, medium=event.medium or "GPU")
