from array import array

import msgspec
import pytest

from hfx_sgl.results.record import RequestRecord, Status
from hfx_sgl.results.summarise import summarise
from hfx_sgl.results.summary import Summary
from hfx_sgl.results.table import format_summary


def record(**changes: object) -> RequestRecord:
    whole = RequestRecord(
        request_id="r",
        class_name="chat",
        scheduled_at_s=0.0,
        sent_at_s=0.0,
        status=Status.OK,
        prompt_tokens=100,
        output_tokens=11,
        ttft_s=0.1,
        tpot_s=0.02,
        e2e_s=0.3,
        ttft_slo_s=0.2,
        tpot_slo_s=0.05,
    )
    return msgspec.structs.replace(whole, **changes)


def turned_away(status: Status, **changes: object) -> RequestRecord:
    return record(status=status, output_tokens=0, ttft_s=None, tpot_s=None, e2e_s=None, **changes)


def test_every_arrival_is_in_the_denominator() -> None:
    summary = summarise(
        [
            record(),
            record(ttft_s=0.21),
            turned_away(Status.REJECTED),
            turned_away(Status.FAILED),
            turned_away(Status.TIMED_OUT),
        ],
        duration_s=10.0,
    )
    overall = summary.overall
    assert (overall.num_requests, overall.completed) == (5, 2)
    assert (overall.rejected, overall.failed, overall.timed_out) == (1, 1, 1)
    assert overall.slo_attainment == pytest.approx(1 / 5)
    assert overall.slo_attainment_by_metric == pytest.approx({"ttft": 1 / 5, "tpot": 2 / 5})
    assert overall.request_goodput == pytest.approx(0.1)


def test_throughputs_count_completed_requests() -> None:
    partial = record(status=Status.FAILED, output_tokens=5, e2e_s=None)
    overall = summarise([record(cached_tokens=60), record(), partial], duration_s=2.0).overall
    assert (overall.total_input_tokens, overall.total_output_tokens) == (200, 22)
    assert overall.num_cached_tokens == 60
    assert overall.request_throughput == pytest.approx(1.0)
    assert overall.input_throughput == pytest.approx(100)
    assert overall.output_throughput == pytest.approx(11)
    assert overall.total_throughput == pytest.approx(111)
    assert overall.concurrency == pytest.approx(0.3)
    assert overall.mean_ttft_ms == pytest.approx(100)


def test_duration_runs_to_the_end_of_the_last_answer() -> None:
    summary = summarise([record(sent_at_s=4.0, e2e_s=1.0), record(sent_at_s=4.5, e2e_s=0.25)])
    assert summary.overall.duration == 5.0
    assert summary.overall.request_throughput == pytest.approx(2 / 5)


def test_a_single_token_keeps_its_promise_per_token() -> None:
    summary = summarise([record(output_tokens=1, tpot_s=None)])
    assert summary.overall.slo_attainment == 1.0
    assert summary.overall.slo_attainment_by_metric == {"ttft": 1.0, "tpot": 1.0}
    assert summary.overall.mean_tpot_ms is None


def test_a_promise_counts_only_where_it_was_given() -> None:
    bound = {"ttft_slo_s": None, "tpot_slo_s": None}
    summary = summarise(
        [record(class_name="batch", **bound), record(class_name="batch", **bound), record()]
    )
    assert summary.overall.slo_attainment_by_metric == {"ttft": 1.0, "tpot": 1.0}
    assert summary.classes["batch"].slo_attainment_by_metric is None
    assert summary.overall.goodput_slos_ms is None
    assert summary.classes["chat"].goodput_slos_ms == {"ttft": 200.0, "tpot": 50.0}


def test_the_end_to_end_bound() -> None:
    summary = summarise([record(e2e_slo_s=0.3), record(e2e_slo_s=0.3, e2e_s=0.31)])
    assert summary.overall.slo_attainment_by_metric is not None
    assert summary.overall.slo_attainment_by_metric["e2el"] == 0.5
    assert summary.overall.slo_attainment == 0.5


def test_classes_are_summed_up_apart_and_the_worst_is_named() -> None:
    summary = summarise(
        [
            record(class_name="code"),
            record(class_name="code", ttft_s=0.3),
            record(class_name="chat"),
            record(class_name="agent", tpot_s=0.06),
        ]
    )
    assert list(summary.classes) == ["agent", "chat", "code"]
    assert summary.classes["code"].num_requests == 2
    assert summary.classes["code"].mean_ttft_ms == pytest.approx(200)
    assert summary.overall.mean_ttft_ms == pytest.approx(150)
    assert summary.worst_class is not None
    assert (summary.worst_class.name, summary.worst_class.slo_attainment) == ("agent", 0.0)


def test_gaps_between_tokens_come_from_records_or_beside_them() -> None:
    held = summarise([record(itls_s=(0.01, 0.03))])
    assert held.overall.mean_itl_ms == pytest.approx(20)
    beside = summarise([record(), record(class_name="code")], itls_s={"chat": array("d", [0.01])})
    assert beside.overall.p99_itl_ms == pytest.approx(10)
    assert beside.classes["code"].mean_itl_ms is None


def test_what_was_not_measured_is_absent_from_the_file() -> None:
    summary = summarise([turned_away(Status.FAILED)])
    written = msgspec.to_builtins(summary.overall)
    assert not [key for key in written if "_ms" in key and key != "goodput_slos_ms"]
    assert written["slo_attainment"] == 0.0
    assert "request_throughput" not in written  # it took no time


def test_a_run_without_requests() -> None:
    summary = summarise([], duration_s=5.0)
    assert summary.overall.num_requests == 0
    assert summary.overall.slo_attainment is None
    assert summary.overall.request_throughput is None
    assert summary.worst_class is None
    assert summary.classes == {}


def test_a_summary_survives_its_file() -> None:
    summary = summarise([record(itls_s=(0.01,)), turned_away(Status.REJECTED)])
    assert msgspec.json.decode(msgspec.json.encode(summary), type=Summary) == summary


def test_the_table_has_a_line_per_class_and_one_for_all() -> None:
    lines = format_summary(
        summarise([record(), turned_away(Status.REJECTED, class_name="batch")], duration_s=2.0)
    ).splitlines()
    assert [line.split()[0] for line in lines] == ["class", "batch", "chat", "all", "worst"]
    assert lines[1].split()[1:7] == ["1", "0", "1", "0", "0", "0.0%"]
    assert lines[1].split()[-1] == "-"
    assert lines[3].split()[1:8] == ["2", "1", "1", "0", "0", "50.0%", "0.50"]
    assert lines[4] == "worst class: batch, 0.0% attained"
