from pathlib import Path

import msgspec
import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.results.reader import read_records, read_run
from hfx_sgl.results.record import RequestRecord, Status
from hfx_sgl.results.run import RunInfo, WorkerSample
from hfx_sgl.results.summarise import summarise
from hfx_sgl.results.writer import RunWriter

INFO = RunInfo(
    tool="sim",
    policy="random",
    cluster="4",
    profile="tiny",
    workload="mix",
    load_factor=1.5,
    seed=3,
    duration_s=60.0,
    version="0.1.0",
    settings={"rate": 2.5, "is_pd": False, "trace": None},
)
SAMPLE = WorkerSample(
    at_s=1.0,
    worker="w0",
    role="prefill",
    num_running_reqs=2,
    num_waiting_reqs=1,
    token_usage=0.25,
)


def record(number: int) -> RequestRecord:
    return RequestRecord(
        request_id=f"r{number}",
        class_name="chat",
        scheduled_at_s=float(number),
        sent_at_s=number + 0.001,
        status=Status.OK,
        prompt_tokens=10,
        output_tokens=2,
        ttft_s=0.1,
        tpot_s=0.01,
        e2e_s=0.11,
    )


def write_run(path: Path, *, has_samples: bool = True) -> Path:
    records = [record(number) for number in range(3)]
    with RunWriter(path) as writer:
        for position, each in enumerate(records):
            writer.add_record(position, each)
        if has_samples:
            writer.add_worker_sample(SAMPLE)
        writer.finish(INFO, summarise(records))
    return path


def read_all(path: Path) -> None:
    run = read_run(path)
    assert list(run.records())
    assert list(run.workers())


def test_a_run_reads_as_it_was_written(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "deep" / "run"))
    assert run.info == INFO
    assert tuple(run.records()) == tuple(record(number) for number in range(3))
    assert tuple(run.workers()) == (SAMPLE,)
    assert run.summary == summarise(run.records())


def test_without_samples_there_is_no_file_of_them(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", has_samples=False)
    assert not (path / "workers.jsonl").exists()
    assert list(read_run(path).workers()) == []


def test_outcomes_are_written_in_order_of_arrival(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        for position in (2, 0, 3, 1):
            writer.add_record(position, record(position))
    assert [each.request_id for each in read_records(tmp_path)] == ["r0", "r1", "r2", "r3"]


def test_an_interrupted_run_keeps_the_outcomes_it_had(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        writer.add_record(4, record(4))
        writer.add_record(1, record(1))
    assert [each.request_id for each in read_records(tmp_path)] == ["r1", "r4"]
    with pytest.raises(ConfigError, match="no finished run"):
        read_run(tmp_path)


def test_a_folder_that_holds_a_run_is_not_written_over(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="holds a run already"):
        RunWriter(tmp_path / "run")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"output: .*file"):
        RunWriter(tmp_path / "file" / "run")


LINE = msgspec.json.encode(record(0)).decode()


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("records.jsonl", LINE + "\n" + LINE.replace("0.1,", '"soon",'), r":2: ttft_s: Expected"),
        ("records.jsonl", LINE.replace('"ok"', '"fine"'), r":1: status: Invalid enum value"),
        ("records.jsonl", LINE.replace('"class_name":"chat",', ""), r":1: class_name: .*missing"),
        ("records.jsonl", LINE.replace("ttft_s", "ttft"), r":1: ttft: .*unknown field"),
        ("records.jsonl", LINE.replace("10", "-10"), r":1: prompt_tokens: Expected `int` >= 0"),
        ("records.jsonl", LINE + "\n\n", r":2: "),
        ("records.jsonl", LINE[:-5], r":1: .*truncated"),
        ("workers.jsonl", '{"at_s": 0}\n', r":1: worker: .*missing"),
        ("run.json", '{"tool": 3}', r":1: tool: Expected `str`"),
        ("summary.json", "{}", r":1: overall: .*missing"),
    ],
)
def test_what_does_not_belong_there_is_refused_by_place(
    tmp_path: Path, file: str, content: str, problem: str
) -> None:
    path = write_run(tmp_path / "run")
    (path / file).write_text(content)
    with pytest.raises(ConfigError, match=f"{file}{problem}"):
        read_all(path)


@pytest.mark.parametrize("file", ["records.jsonl", "summary.json"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    path = write_run(tmp_path / "run")
    (path / file).unlink()
    with pytest.raises(ConfigError, match=f"{file}: No such file"):
        read_all(path)
