from typing import Any

import msgspec
import pytest
from hfx_router.estimates.kv_messages import (
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    KvSource,
    kv_source,
    read_message,
    removed_blocks,
    replay_request,
    stored_slices,
)
from hfx_router.workers.worker import Worker, WorkerSpec

from hfx_sgl.policy.breaker import Breaker, BreakerConfig
from hfx_sgl.policy.health import HealthConfig, HealthTracker

DESCRIBED = {
    "publisher": "zmq", "endpoint_host": "*", "endpoint_port_base": 5557, "topic": "kv",
    "block_size": 16, "dp_size": 1, "load_topic": "load",
}  # fmt: skip
STORED = {
    "type": "BlockStored", "block_hashes": [-5, 6], "parent_block_hash": 3,
    "token_ids": [1, 2, 3, 4], "block_size": 2, "lora_id": None, "medium": "GPU",
}  # fmt: skip


def worker_at(url: str, described: object, dp_rank: int | None = None) -> Worker:
    tracker = HealthTracker(HealthConfig(), is_healthy=True)
    worker = Worker("w", WorkerSpec(url=url, dp_rank=dp_rank), Breaker(BreakerConfig()), tracker)
    if described is not None:
        worker.metadata["kv_events"] = described
    return worker


def message_of(*events: dict[str, Any], number: int = 7) -> list[bytes]:
    payload = msgspec.msgpack.encode([12.5, list(events), 0])
    return [b"kv", number.to_bytes(8, "big"), payload]


@pytest.mark.parametrize(
    ("url", "dp_rank", "more", "endpoint", "replay_endpoint"),
    [
        ("http://10.0.0.5:30000", None, {}, "tcp://10.0.0.5:5557", None),
        ("http://[fd00::1]:30000", None, {"endpoint_host": "::"}, "tcp://[fd00::1]:5557", None),
        ("http://h:1", None, {"endpoint_host": "10.1.1.1"}, "tcp://10.1.1.1:5557", None),
        ("http://h:1", 2, {"dp_size": 4}, "tcp://h:5559", None),
        (
            "http://h:1", 1, {"dp_size": 4, "replay_endpoint_port_base": 6000},
            "tcp://h:5558", "tcp://h:6001",
        ),
    ],
)  # fmt: skip
def test_a_worker_says_where_it_publishes(
    url: str, dp_rank: int | None, more: dict[str, Any], endpoint: str, replay_endpoint: str | None
) -> None:
    assert kv_source(worker_at(url, DESCRIBED | more, dp_rank)) == KvSource(
        endpoint=endpoint, replay_endpoint=replay_endpoint, topic=b"kv", block_tokens=16
    )


@pytest.mark.parametrize(
    "described",
    [
        None,
        "tcp://*:5557",
        {},
        DESCRIBED | {"publisher": "null"},
        DESCRIBED | {"block_size": 0},
        DESCRIBED | {"dp_size": 2},
    ],
)
def test_a_worker_that_cannot_be_followed(described: object) -> None:
    assert kv_source(worker_at("http://h:1", described)) is None


def test_reads_a_message() -> None:
    message = read_message(
        message_of(
            STORED,
            {"type": "BlockRemoved", "block_hashes": [6], "medium": "CPU_PINNED"},
            {"type": "AllBlocksCleared"},
        )
    )
    assert message is not None
    assert (message.number, message.stamp_s) == (7, 12.5)
    stored, removed, cleared = message.events
    assert isinstance(stored, BlockStored)
    assert isinstance(removed, BlockRemoved)
    assert isinstance(cleared, AllBlocksCleared)
    assert (stored.block_hashes, stored.parent_block_hash) == ([-5, 6], 3)
    assert removed_blocks(removed).medium == "CPU_PINNED"


def test_a_replay_has_an_end() -> None:
    assert read_message([b"", b"", (-1).to_bytes(8, "big", signed=True), b""]) is None
    assert replay_request(258) == [b"", b"\0\0\0\0\0\0\1\2"]


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"payload"],
        [b"kv", b"short", b""],
        [b"kv", bytes(8), b"\xc1"],
        [b"kv", bytes(8), msgspec.msgpack.encode({"events": []})],
        message_of({"type": "SomethingElse"}),
        message_of(STORED | {"token_ids": [[1, 2], [2, 3]]}),
        message_of(STORED | {"block_hashes": ["abc"]}),
        message_of(STORED | {"token_ids": [2**63]}),
    ],
)
def test_what_is_no_message_is_refused(parts: list[bytes]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the texts are those of another library
        read_message(parts)


def test_long_runs_are_cut() -> None:
    num_blocks = 1100
    event = BlockStored(
        block_hashes=list(range(num_blocks)), token_ids=list(range(2 * num_blocks)),
        parent_block_hash=-1,
    )  # fmt: skip
    slices = list(stored_slices(event, 2))
    assert len(slices) == 3
    assert [blocks.parent_hash for blocks in slices] == [-1, 511, 1023]
    assert [t for blocks in slices for t in blocks.token_ids] == event.token_ids
    assert [h for blocks in slices for h in blocks.block_hashes] == event.block_hashes
    assert {blocks.medium for blocks in slices} == {"GPU"}


@pytest.mark.parametrize("apart", [{"cache_salt": "s"}, {"lora_name": "a"}, {"lora_id": 1}])
def test_blocks_kept_apart_are_left_out(apart: dict[str, Any]) -> None:
    message = read_message(message_of(STORED | apart))
    assert message is not None
    (event,) = message.events
    assert isinstance(event, BlockStored)
    assert list(stored_slices(event, 2)) == []
