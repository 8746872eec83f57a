"""Many workers, and the command that runs them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from http.client import HTTPConnection

import psutil
import pytest
from support.ask import Json, get, post
from support.emulators import free_base, is_free, running_worker, url_of

BODY: Json = {"text": "hello", "sampling_params": {"max_new_tokens": 5, "ignore_eos": True}}


async def test_a_hundred_workers_in_one_loop() -> None:
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(running_worker()) for _ in range(100)]
        answers = await asyncio.gather(*(post(url_of(w), "/generate", BODY) for w in workers))
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body["text"] for answer in answers}) == 1
        assert all(is_free(worker) for worker in workers)
        # An idle worker waits for its socket and for nothing else.
        assert [worker for worker in workers if worker.driver.has_timer] == []


class Command:
    """A running `hfx-emulator`."""

    def __init__(self, *flags: str, port: int | None = None) -> None:
        port = self.port = port or free_base()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hfx_sgl.emulator", "--base-port", str(port), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_ready(self) -> list[str]:
        """Return what it prints until it says how to end it."""
        lines: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            lines.append(line.rstrip())
            if line.startswith("Ctrl-C"):
                return lines
        assert self.process.stderr is not None
        raise AssertionError(f"it has ended: {self.process.stderr.read()}")

    def family(self) -> list[psutil.Process]:
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]

    def end(self) -> None:
        with suppress(psutil.NoSuchProcess):
            for process in self.family():
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.communicate()


@pytest.fixture
def commands() -> Iterator[list[Command]]:
    running: list[Command] = []
    yield running
    for command in running:
        command.end()


def test_one_process(commands: list[Command]) -> None:
    command = Command("--prefill", "1", "--decode", "1", "--served-model-name", "m")
    commands.append(command)
    lines = command.wait_ready()
    decode_url = f"http://127.0.0.1:{command.port + 10}"
    assert lines[0].split()[:2] == ["prefill-0", command.url]
    assert lines[1].split() == ["decode-0", decode_url]
    assert (
        f"  hfx-router --pd-disaggregation --prefill {command.url} {command.port + 1} "
        f"--decode {decode_url}"
    ) in lines
    info = asyncio.run(get(command.url, "/server_info")).body
    assert info["emulated_profile"]["name"] == "qwen3-8b_h100_tp1"
    command.process.send_signal(signal.SIGTERM)
    assert command.process.wait(5) == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_several_processes_end_together(commands: list[Command], signum: signal.Signals) -> None:
    command = Command("--workers", "3", "--processes", "2")
    commands.append(command)
    command.wait_ready()
    family = command.family()
    assert len(family) == 3
    for slot in range(3):
        url = f"http://127.0.0.1:{command.port + 10 * slot}"
        assert asyncio.run(post(url, "/generate", BODY)).status == 200
    command.process.send_signal(signum)
    assert command.process.wait(10) == 0
    assert [process for process in family if process.is_running()] == []


def test_a_child_that_dies_ends_everything_by_name(commands: list[Command]) -> None:
    command = Command("--workers", "2", "--processes", "2")
    commands.append(command)
    command.wait_ready()
    family = command.family()
    os.kill(family[1].pid, signal.SIGKILL)
    _, errors = command.process.communicate(timeout=15)
    assert command.process.returncode == 1
    assert "process-" in errors
    assert "has ended" in errors
    assert [process for process in family if process.is_running()] == []


def test_a_fault_that_kills_the_last_worker_ends_the_command(commands: list[Command]) -> None:
    command = Command("--workers", "1")
    commands.append(command)
    command.wait_ready()
    connection = HTTPConnection("127.0.0.1", command.port, timeout=5)
    with suppress(ConnectionError):
        connection.request("POST", "/emulated/faults", body='{"die": true}')
        connection.getresponse()
    connection.close()
    _, errors = command.process.communicate(timeout=10)
    assert command.process.returncode == 1
    assert "regular-0" in errors


def test_page_sizes_that_differ_end_the_decode_process(commands: list[Command]) -> None:
    for page_size in ("1", "16"):
        commands.append(
            Command("--prefill", "1", "--decode", "1", "--page-size", page_size, "--processes", "2")
        )
        commands[-1].wait_ready()
    first, second = commands
    info = asyncio.run(get(f"http://127.0.0.1:{second.port + 10}", "/server_info")).body
    assert info["page_size"] == 16
    room = {"bootstrap_host": "127.0.0.1", "bootstrap_port": first.port + 1, "bootstrap_room": 1}
    with pytest.raises(Exception, match=r"disconnected|reset"):
        asyncio.run(post(f"http://127.0.0.1:{second.port + 10}", "/generate", {**BODY, **room}))
    _, errors = second.process.communicate(timeout=15)
    assert second.process.returncode == 1
    assert "has ended" in errors
    assert asyncio.run(get(first.url, "/health")).status == 200


def test_a_port_in_use_is_said_by_name(commands: list[Command]) -> None:
    first = Command("--workers", "1")
    commands.append(first)
    first.wait_ready()
    second = Command("--workers", "1", port=first.port)
    commands.append(second)
    _, errors = second.process.communicate(timeout=10)
    assert second.process.returncode == 1
    assert "regular-0" in errors
    assert "Traceback" not in errors
