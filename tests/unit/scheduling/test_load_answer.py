"""What is read from `/v1/loads`, and what is of no use."""

from typing import Any

import orjson
import pytest
from hfx_router.scheduling.load_answer import (
    LOADS_PATH,
    NoLoads,
    RankLoad,
    load_of,
    parse_loads,
)

from hfx_sgl.policy.scheduler.facts import WorkerReport

ENTRY: dict[str, Any] = {
    "timestamp": 1.5,
    "dp_rank": 0,
    "num_running_reqs": 4,
    "num_active_tokens": 6000,
    "total_prefill_uncached_tokens": 12_345,
    "total_prefill_busy_us": 2_500_000,
    "decode_moments": [10.0, 40.0, 100_000.0, 160.0, 400_000.0, 41.0],
    "disaggregation": {
        "mode": "prefill",
        "kv_transfer_speed_gb_s": 2.0,
        "kv_transfer_latency_ms": 50.0,
    },
}


def answer(*entries: dict[str, Any]) -> bytes:
    return orjson.dumps({"version": "0.5.23", "accelerator": "H100", "loads": entries})


def parsed(*entries: dict[str, Any]) -> tuple[RankLoad, ...]:
    ranks = parse_loads(answer(*entries))
    assert not isinstance(ranks, NoLoads)
    return ranks


def test_the_sections_that_are_read_are_asked_for() -> None:
    assert LOADS_PATH == "/v1/loads?include=core,disagg"


def test_a_whole_answer() -> None:
    assert load_of(parsed(ENTRY), None) == WorkerReport(
        num_prefill_tokens=12_345,
        prefill_busy_s=2.5,
        decode_moments=(10.0, 40.0, 100_000.0, 160.0, 400_000.0, 41.0),
        mean_context_tokens=1500.0,
        last_transfer_bytes=round(0.1 * 2**30),
        last_transfer_s=0.05,
    )


@pytest.mark.parametrize("name", ["decode_moments", "disaggregation"])
@pytest.mark.parametrize("is_null", [False, True])
def test_what_a_worker_need_not_say(name: str, is_null: bool) -> None:
    entry = {key: value for key, value in ENTRY.items() if key != name}
    if is_null:
        entry[name] = None
    report = load_of(parsed(entry), None)
    assert report is not None
    if name == "decode_moments":
        assert report.decode_moments == ()
    else:
        assert (report.last_transfer_bytes, report.last_transfer_s) == (0, 0.0)


@pytest.mark.parametrize("latency_ms", [0.0, 50.0])
def test_a_server_at_rest_has_neither_context_nor_transfer(latency_ms: float) -> None:
    still = {"kv_transfer_speed_gb_s": 0.0, "kv_transfer_latency_ms": latency_ms}
    entry = ENTRY | {"num_running_reqs": 0, "num_active_tokens": 0, "disaggregation": still}
    report = load_of(parsed(entry), None)
    assert report is not None
    assert report.mean_context_tokens == 0.0
    assert (report.last_transfer_bytes, report.last_transfer_s) == (0, 0.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        *(
            ({name: None}, name)
            for name in (
                "num_running_reqs",
                "num_active_tokens",
                "total_prefill_uncached_tokens",
                "total_prefill_busy_us",
            )
        ),
        ({"total_prefill_busy_us": -1}, "total_prefill_busy_us"),
        ({"total_prefill_busy_us": "12"}, "total_prefill_busy_us"),
        ({"num_active_tokens": True}, "num_active_tokens"),
        ({"num_running_reqs": 1.5}, "num_running_reqs"),
        ({"decode_moments": [1.0] * 5}, "decode_moments"),
        ({"decode_moments": [1.0, -1.0, 1.0, 1.0, 1.0, 1.0]}, "decode_moments"),
        ({"decode_moments": [1.0, None, 1.0, 1.0, 1.0, 1.0]}, "decode_moments"),
        ({"disaggregation": {"kv_transfer_latency_ms": -2.0}}, "kv_transfer_latency_ms"),
    ],
)
def test_an_answer_of_no_use_names_the_field(change: dict[str, Any], reason: str) -> None:
    ranks = parse_loads(answer(ENTRY | change))
    assert isinstance(ranks, NoLoads)
    assert reason in ranks.reason


@pytest.mark.parametrize("name", ["total_prefill_uncached_tokens", "total_prefill_busy_us"])
def test_servers_without_counters(name: str) -> None:
    ranks = parse_loads(answer({key: value for key, value in ENTRY.items() if key != name}))
    assert isinstance(ranks, NoLoads)
    assert name in ranks.reason


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"loads": {}}',
        b'{"loads": [7]}',
        b"\xff\xfe",
        b'{"loads": "\xff"}',
        answer(ENTRY).replace(b"2500000", b"1e999"),
    ],
)
def test_what_is_no_answer_at_all(body: bytes) -> None:
    assert isinstance(parse_loads(body), NoLoads)


def test_a_server_is_the_sum_of_its_ranks_and_a_rank_is_itself() -> None:
    other = ENTRY | {
        "dp_rank": 1,
        "num_running_reqs": 1,
        "num_active_tokens": 4000,
        "decode_moments": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    }
    ranks = parsed(ENTRY, other, ENTRY | {"dp_rank": 2, "decode_moments": None})
    whole, one = load_of(ranks, None), load_of(ranks, 1)
    assert whole is not None
    assert one is not None
    assert whole.num_prefill_tokens == 3 * 12_345
    assert whole.prefill_busy_s == 7.5
    assert whole.decode_moments == (11.0, 42.0, 100_003.0, 164.0, 400_005.0, 47.0)
    assert whole.mean_context_tokens == 16_000 / 9
    assert one.mean_context_tokens == 4000.0
    assert one.decode_moments == (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    assert load_of(ranks, 3) is None
    assert load_of((), None) is None
