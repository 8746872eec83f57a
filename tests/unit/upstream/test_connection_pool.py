import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hfx_router.outbox import ImmediateOutbox
from hfx_router.upstream.connection import LegFailure, UpstreamConnection
from hfx_router.upstream.pool import ConnectionPool
from support.fake_transport import FakeTransport
from support.worker_side import RecordingSink, WorkerSide

from hfx_sgl.clock import FakeClock


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("worker-1", b"host: worker-1:30000\r\n"),
        ("10.0.0.1", b"host: 10.0.0.1:30000\r\n"),
        ("::1", b"host: [::1]:30000\r\n"),
    ],
)
def test_host_line(host: str, line: bytes) -> None:
    assert WorkerSide(host=host).pool.host_line == line


def test_nothing_to_take_from_an_empty_pool() -> None:
    pool = WorkerSide().pool
    assert pool.take_idle() is None
    assert (pool.num_open, pool.num_idle, pool.num_opened) == (0, 0, 0)


def test_the_last_given_back_is_the_first_taken() -> None:
    side = WorkerSide()
    connections = [side.open_idle()[0] for _ in range(3)]
    assert (side.pool.num_open, side.pool.num_idle) == (3, 3)
    taken = [side.pool.take_idle() for _ in range(4)]
    assert taken == [*reversed(connections), None]
    assert (side.pool.num_open, side.pool.num_idle, side.pool.num_opened) == (3, 0, 3)


def test_a_connection_that_closed_is_not_handed_out() -> None:
    side = WorkerSide()
    (first, _), (second, _), (third, _) = (side.open_idle() for _ in range(3))
    third.abandon()  # its transport has not told yet
    second.connection_lost(None)
    assert (side.pool.num_open, side.pool.num_idle) == (2, 2)
    assert side.pool.take_idle() is first
    third.connection_lost(None)
    assert (side.pool.num_open, side.pool.num_idle) == (1, 0)


def test_stale_connections_are_closed_and_young_ones_kept() -> None:
    side = WorkerSide(idle_timeout_s=4.0)
    old = [side.open_idle() for _ in range(2)]
    busy, busy_transport = side.open()
    busy.send(b"", RecordingSink())
    side.clock.advance(3.0)
    young, young_transport = side.open_idle()
    side.clock.advance(1.0)
    side.pool.close_stale()
    assert side.pool.num_idle == 3, "the time is not quite up"
    side.clock.advance(0.5)
    side.pool.close_stale()
    assert all(transport.was_aborted for _, transport in old)
    assert not young_transport.was_aborted
    assert not busy_transport.was_aborted
    assert side.pool.take_idle() is young
    assert side.pool.take_idle() is None


def test_use_makes_a_connection_young_again() -> None:
    side = WorkerSide(idle_timeout_s=4.0)
    connection, transport = side.open_idle()
    side.clock.advance(3.9)
    assert side.pool.take_idle() is connection
    connection.send(b"", RecordingSink())
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    side.clock.advance(3.9)
    side.pool.close_stale()
    assert not transport.was_aborted


def test_closing_the_pool_closes_every_connection() -> None:
    side = WorkerSide()
    _, idle = side.open_idle()
    connection, busy = side.open()
    sink = RecordingSink()
    connection.send(b"", sink)
    side.pool.close()
    assert idle.was_aborted
    assert busy.was_aborted
    assert sink.outcome is None
    assert side.pool.take_idle() is None


def test_a_retired_pool_closes_what_is_idle_and_then_what_was_busy() -> None:
    side = WorkerSide()
    idle = [side.open_idle()[1] for _ in range(2)]
    connection, busy = side.open()
    sink = RecordingSink()
    connection.send(b"", sink)
    side.pool.retire()
    assert all(transport.was_aborted for transport in idle)
    assert not busy.was_aborted
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    assert sink.outcome == "end"
    assert busy.was_aborted
    assert side.pool.take_idle() is None


class FakeNetwork:
    """Stands in for the loop's `create_connection`; connections are made when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.asked: list[tuple[str, int]] = []
        self.transports: list[FakeTransport] = []
        self.may_connect = asyncio.Event()
        self.num_given_up = 0
        self._error = error
        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", self._create)

    async def _create(
        self, make: Callable[[], UpstreamConnection], host: str, port: int
    ) -> tuple[Any, UpstreamConnection]:
        self.asked.append((host, port))
        try:
            await self.may_connect.wait()
        except asyncio.CancelledError:
            self.num_given_up += 1
            raise
        if self._error is not None:
            raise self._error
        transport, connection = FakeTransport(), make()
        self.transports.append(transport)
        connection.connection_made(transport)
        return transport, connection


def network_pool(connect_timeout_s: float = 5.0) -> ConnectionPool:
    return ConnectionPool(
        "10.0.0.1",
        30000,
        outbox=ImmediateOutbox(),
        now_s=FakeClock().now_s,
        connect_timeout_s=connect_timeout_s,
        idle_timeout_s=4.0,
    )


async def test_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    network, pool = FakeNetwork(monkeypatch), network_pool()
    sink, connected = RecordingSink(), list[UpstreamConnection]()
    task = pool.connect(sink, connected.append)
    await asyncio.sleep(0)
    assert (network.asked, connected) == ([("10.0.0.1", 30000)], [])
    network.may_connect.set()
    await task
    (connection,) = connected
    assert connection.is_open
    assert (pool.num_open, pool.num_idle, pool.num_opened) == (1, 0, 1)
    connection.send(b"hello", sink)
    assert network.transports[0].written == b"hello"
    assert sink.outcome is None


@pytest.mark.parametrize(
    "error", [ConnectionRefusedError(), OSError("no route"), TimeoutError(), OSError(24, "files")]
)
async def test_failure_to_connect_is_told(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    network, pool = FakeNetwork(monkeypatch, error), network_pool()
    network.may_connect.set()
    sink, connected = RecordingSink(), list[UpstreamConnection]()
    await pool.connect(sink, connected.append)
    assert sink.outcome is LegFailure.CONNECT
    assert connected == []
    assert pool.num_open == 0


async def test_connecting_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    network, pool = FakeNetwork(monkeypatch), network_pool(connect_timeout_s=0.0)
    sink, connected = RecordingSink(), list[UpstreamConnection]()
    await pool.connect(sink, connected.append)
    assert sink.outcome is LegFailure.CONNECT
    assert connected == []
    assert network.num_given_up == 1


async def test_a_cancelled_attempt_tells_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    network, pool = FakeNetwork(monkeypatch), network_pool()
    sink, connected = RecordingSink(), list[UpstreamConnection]()
    task = pool.connect(sink, connected.append)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert (sink.outcome, connected) == (None, [])
    assert network.num_given_up == 1


async def test_closing_the_pool_gives_up_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    network, pool = FakeNetwork(monkeypatch), network_pool()
    sink, connected = RecordingSink(), list[UpstreamConnection]()
    tasks = [pool.connect(sink, connected.append) for _ in range(3)]
    await asyncio.sleep(0)
    pool.close()
    await asyncio.wait(tasks)
    assert network.num_given_up == 3
    assert (sink.outcome, connected) == (None, [])
