"""Mooncake's own handshake with engines that answer and engines that do not, and how long it takes.

The interpreter that runs the tests stands in for that of an SGLang environment: both have Mooncake.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hfx_transfer.sglang.weights.environment import contact_sessions
from support.loopback import in_loopback

from hfx_sgl.errors import TransferError, TransferFault

pytest.importorskip(
    "mooncake.engine",
    reason="Mooncake is in the extras cpu, cuda and npu",
    exc_type=ImportError,
)

TIMEOUT_S = 20.0
SHORT_S = 3.0
ENGINE = """\
import sys
from mooncake.engine import TransferEngine
engine = TransferEngine()
assert engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
print(engine.get_rpc_port(), flush=True)
sys.stdin.read()
"""


@contextmanager
def engine() -> Iterator[tuple[str, int]]:
    """Run an engine in a process of its own; gives its session and the process."""
    process = subprocess.Popen(
        [sys.executable, "-c", ENGINE],
        env={**os.environ, "MC_FORCE_TCP": "1", "MC_LOG_LEVEL": "ERROR"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            yield f"127.0.0.1:{process.stdout.readline().strip()}", process.pid
        finally:
            process.kill()


def fault_of(sessions: list[str], timeout_s: float) -> TransferFault:
    started_at_s = time.monotonic()
    with pytest.raises(TransferError) as caught:
        contact_sessions(sys.executable, {}, sessions, timeout_s=timeout_s)
    assert time.monotonic() - started_at_s < timeout_s + 2.0
    assert sessions[-1] in str(caught.value)
    return caught.value.fault


@in_loopback
def test_engines_that_run_answer_and_a_port_without_one_does_not() -> None:
    with engine() as (one, _), engine() as (other, _):
        contact_sessions(sys.executable, {}, [one, other], timeout_s=TIMEOUT_S)
        assert fault_of([one, "127.0.0.1:9"], TIMEOUT_S) is TransferFault.UNREACHABLE


@in_loopback
def test_an_engine_that_is_stopped_is_given_up_within_the_limit() -> None:
    with engine() as (one, _), engine() as (stopped, pid):
        os.kill(pid, signal.SIGSTOP)
        assert fault_of([one, stopped], SHORT_S) is TransferFault.FIRST_CONTACT_TIMEOUT


@in_loopback
def test_a_port_that_accepts_and_says_nothing_is_given_up_within_the_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        session = f"127.0.0.1:{server.getsockname()[1]}"
        assert fault_of([session], SHORT_S) is TransferFault.FIRST_CONTACT_TIMEOUT
