"""The command, from its arguments to the run folder."""

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support.planned_server import PlannedServer, serve_whole

from hfx_sgl.loadtest.cli import main
from hfx_sgl.results.reader import read_run

WORKLOAD = """\
sources:
  - class: chat
    rate_per_s: 40
    prompt_tokens: {kind: fixed, value: 50}
    output_tokens: {kind: fixed, value: 5}
  - class: code
    rate_per_s: 20
    prompt_tokens: {kind: fixed, value: 100}
    output_tokens: {kind: fixed, value: 3}
"""


@pytest.fixture
def base_url() -> Iterator[str]:
    """A server on a loop and in a thread of its own."""
    loop = asyncio.new_event_loop()
    server = PlannedServer({"code": partial(serve_whole, delay_s=0.05)})
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    yield server.url
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture
def workload(tmp_path: Path) -> str:
    path = tmp_path / "two.yaml"
    path.write_text(WORKLOAD)
    return str(path)


def test_a_run_from_end_to_end(
    base_url: str, workload: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    arguments = ["--base-url", base_url, "--workload", workload, "--duration", "1", "--seed", "4"]
    arguments += ["--output", str(folder), "--sample-interval-s", "0.1", "--policy", "random"]
    assert main(arguments) == 0

    run = read_run(folder)
    assert run.info.is_valid
    assert (run.info.tool, run.info.policy, run.info.workload) == ("loadtest", "random", "two")
    assert (run.info.duration_s, run.info.seed) == (1.0, 4)
    assert run.info.settings["model"] == "planned-model"
    assert list(run.workers())
    records = list(run.records())
    overall = run.summary.overall
    assert overall.num_requests == overall.completed == len(records) > 20
    arrivals_s = [record.scheduled_at_s for record in records]
    assert arrivals_s == sorted(arrivals_s)
    code = run.summary.classes["code"]
    assert code.median_ttft_ms is not None
    assert 50 <= code.median_ttft_ms < 150
    assert code.total_output_tokens == 3 * code.completed
    assert code.mean_itl_ms is not None
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("class")
    assert "p99 of the error in sending time" in out


def test_a_run_that_is_late_exits_with_1(
    base_url: str, workload: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--base-url", base_url, "--workload", workload, "--num-requests", "8"]
    assert main([*arguments, "--model", "m", "--max-send-error-ms", "0.000001"]) == 1
    assert "INVALID: p99 of the error" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--base-url", "nowhere"], "base_url"),
        (["--header", "x"], "header: 'x' is not NAME=VALUE"),
        (["--header", "x=a\nb"], "header: 'x' cannot stand"),
        (["--max-concurrency", "0"], "max_concurrency: must be at least 1"),
        (["--request-timeout-s", "nan"], "request_timeout_s: must be more than 0"),
        (["--workload", "no-such"], "workload: there is no 'no-such'"),
    ],
)
def test_bad_arguments_exit_with_2(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--duration", "1", *arguments]) == 2
    captured = capsys.readouterr()
    assert problem in captured.err
    assert "Traceback" not in captured.err


def test_a_folder_that_holds_a_run_is_left_alone(
    base_url: str, workload: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text("{}")
    arguments = ["--base-url", base_url, "--workload", workload, "--num-requests", "1"]
    assert main([*arguments, "--model", "m", "--output", str(tmp_path)]) == 2
    assert "holds a run already" in capsys.readouterr().err


def test_a_server_that_is_not_there_exits_with_1(
    workload: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--base-url", "http://127.0.0.1:9", "--workload", workload]
    assert main([*arguments, "--num-requests", "1"]) == 1
    assert "error: http://127.0.0.1:9/v1/models" in capsys.readouterr().err
