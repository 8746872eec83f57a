"""Small pieces leave at once: no socket of the router waits for more to send."""

import asyncio
import socket
import time

import pytest
from support.engine import event, sse_answer
from support.inference import DONE
from support.raw_client import request_bytes
from support.router import in_mode, one_worker

STREAM = request_bytes("POST", "/generate", body=b'{"text":"hi","stream":true}')


def _sends_at_once(transport: asyncio.Transport | None) -> bool:
    assert transport is not None
    sock = transport.get_extra_info("socket")
    return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


@pytest.mark.parametrize("mode", ["regular", "pair"])
async def test_no_delay_is_set_on_accepted_and_on_worker_connections(mode: str) -> None:
    async with in_mode(mode) as (router, workers), router.client() as client:
        await client.send(STREAM)
        assert (await client.read_response()).is_complete
        [accepted] = router.router._front.connections
        assert _sends_at_once(accepted._transport)
        pools = router.router.service._pools.values()
        opened = [connection for pool in pools for connection in pool._open]
        assert len(opened) == len(workers)
        assert all(_sends_at_once(connection._transport) for connection in opened)


async def test_the_first_event_of_a_stream_is_not_held_back() -> None:
    """Head and first event in two small writes: with Nagle's algorithm the second would wait for
    the client's delayed acknowledgement, some 40 ms."""
    async with one_worker() as (router, worker), router.client() as client:
        delays_s = []
        for _ in range(10):
            worker.queue(sse_answer([event(1), event(2), DONE], interval_s=0.002))
            began_s = time.monotonic()
            await client.send(STREAM)
            received = await client.read_head()
            assert await client.next_chunk(received) == event(1)
            assert await client.next_chunk(received) == event(2)
            delays_s.append(time.monotonic() - began_s)
            await client.read_rest(received)
        assert sorted(delays_s)[5] < 0.03
