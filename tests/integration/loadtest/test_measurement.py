"""What the client reports against what the server saw, on real sockets."""

import random
from functools import partial

import pytest
from support.load import load, planned
from support.planned_server import HEAD, PlannedServer, Served, serve_whole

from hfx_sgl.results.latency import latency_stats
from hfx_sgl.results.record import Status
from hfx_sgl.results.run import WorkerSample
from hfx_sgl.results.summarise import summarise

TOLERANCE_MS = 12.0
"""Client and server share a loop, on a machine that may be busy."""


async def test_percentiles_agree_with_the_servers_own_stamps(server: PlannedServer) -> None:
    rng = random.Random(2)
    delays_s = [rng.uniform(0.01, 0.15) for _ in range(40)]
    for number, delay_s in enumerate(delays_s):
        server.plans[f"d{number}"] = partial(serve_whole, delay_s=delay_s, gap_s=0.01)
    harvest = await load(
        server.url,
        [planned(number, at_s=number * 0.01, kind=f"d{number}") for number in range(40)],
    )

    overall = summarise(harvest.records.values(), itls_s=harvest.itls_s).overall
    assert overall.completed == 40
    stamps = [(each.received_at_s, each.text_written_at_s) for each in server.served]
    truth_ttft = latency_stats([written[0] - received for received, written in stamps])
    truth_tpot = latency_stats([(written[-1] - written[0]) / 3 for _, written in stamps])
    truth_e2e = latency_stats([written[-1] - received for received, written in stamps])
    assert truth_ttft is not None
    assert truth_tpot is not None
    assert truth_e2e is not None
    for name, truth in (("ttft", truth_ttft), ("tpot", truth_tpot), ("e2e_latency", truth_e2e)):
        for figure in ("mean", "median", "p90", "p99"):
            seen_ms = getattr(overall, f"{figure}_{name}_ms")
            assert seen_ms == pytest.approx(getattr(truth, f"{figure}_ms"), abs=TOLERANCE_MS)
    assert overall.mean_ttft_ms is not None
    assert overall.mean_ttft_ms >= 1000 * sum(delays_s) / 40
    assert overall.mean_itl_ms is not None
    assert overall.mean_itl_ms >= 9.0


async def test_a_record_holds_what_was_sent_and_seen(server: PlannedServer) -> None:
    harvest = await load(
        server.url,
        [planned(0, at_s=0.05, routing_key="s1", priority=2)],
        keeps_itls=True,
        num_warmup_requests=1,
    )
    record = harvest.records[0]
    assert record.status is Status.OK
    assert record.error is None
    assert record.scheduled_at_s == 0.05
    assert record.sent_at_s == pytest.approx(0.05, abs=0.03)
    assert (record.prompt_tokens, record.output_tokens, record.cached_tokens) == (21, 4, 16)
    assert (record.worker, record.prefill_worker) == ("w0", None)
    assert (record.ttft_slo_s, record.tpot_slo_s) == (1.0, None)
    assert record.itls_s is not None
    assert len(record.itls_s) == 3
    assert record.e2e_s is not None
    assert record.ttft_s is not None
    assert record.e2e_s - record.ttft_s == pytest.approx(sum(record.itls_s), abs=0.02)
    warmup, sent = server.served
    assert "x-slo-class" not in warmup.headers
    assert sent.headers["x-slo-ttft-ms"] == "1000"
    assert sent.headers["x-slo-class"] == "whole"
    assert sent.headers["x-smg-routing-key"] == "s1"
    assert sent.headers["x-request-id"] == "r0"
    assert sent.fields["priority"] == 2
    assert sent.fields["emulated_output_tokens"] == 4
    assert sent.fields["max_tokens"] == 8


async def test_sending_does_not_wait_for_a_server_that_stalls(server: PlannedServer) -> None:
    async def stall(served: Served) -> None:
        await served.writer.wait_closed()

    server.plans["stall"] = stall
    requests = [planned(number, at_s=number * 0.02, kind="stall") for number in range(10)]
    harvest = await load(server.url, requests, request_timeout_s=0.5)
    assert len(server.served) == 10
    assert [record.status for record in harvest.records.values()] == [Status.TIMED_OUT] * 10
    assert max(record.sent_at_s for record in harvest.records.values()) < 0.45
    assert harvest.verdict.is_valid


async def test_what_does_not_end_after_the_last_sending_is_given_up(server: PlannedServer) -> None:
    async def start_only(served: Served) -> None:
        await served.put(HEAD)
        await served.put_text()
        await served.writer.wait_closed()

    server.plans["start"] = start_only
    harvest = await load(server.url, [planned(0, kind="start")], drain_timeout_s=0.2)
    record = harvest.records[0]
    assert record.status is Status.TIMED_OUT
    assert record.error is not None
    assert "drain" in record.error
    assert record.e2e_s is None


async def test_connections_are_used_again(server: PlannedServer) -> None:
    requests = [planned(number, at_s=number * 0.15) for number in range(4)]
    harvest = await load(server.url, requests, lead_s=0.05)
    assert [record.status for record in harvest.records.values()] == [Status.OK] * 4
    assert server.num_connections == 1


async def test_workers_are_sampled(server: PlannedServer) -> None:
    samples: list[WorkerSample] = []
    await load(server.url, [planned(0, at_s=0.3)], samples=samples)
    assert len(samples) > 3
    assert {(each.worker, each.role, each.num_running_reqs) for each in samples} == {
        ("http://w0", "regular", 2)
    }
    assert [each.at_s for each in samples] == sorted(each.at_s for each in samples)
    assert samples[0].at_s < 0.2
