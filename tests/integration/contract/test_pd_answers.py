"""What a client receives from a pair: the decode's answer, and nothing of the prefill's."""

import asyncio

import pytest
from support.engine import event, sse_answer
from support.inference import DONE
from support.router import eventually, one_pair
from support.script import SSE_TYPE, answer

STREAM = b'{"text":"hi","stream":true}'


@pytest.mark.parametrize("status", [200, 201])
async def test_the_answer_is_the_decodes(status: int) -> None:
    async with one_pair() as (router, prefill, decode):
        prefill.queue(answer(headers=[(b"x-leg", b"prefill")], body=b'{"leg":"prefill"}'))
        decode.queue(
            answer(status=status, headers=[(b"X-Leg", b"decode")], body=b'{"leg": "decode"}')
        )
        received = await router.post()
        assert received.status == status
        assert bytes(received.body) == b'{"leg": "decode"}'
        assert [v for k, v in received.headers if k.lower() == b"x-leg"] == [b"decode"]
        assert b"X-Leg: decode\r\n" in bytes(received.raw)


@pytest.mark.parametrize("order", ["prefill first", "decode first"])
async def test_either_leg_may_answer_first(order: str) -> None:
    gate = asyncio.Event()
    async with one_pair() as (router, prefill, decode):
        is_prefill_late = order == "decode first"
        prefill.queue(answer(body=b'{"leg":"p"}', gate=gate if is_prefill_late else None))
        decode.queue(answer(body=b'{"leg":"d"}', gate=None if is_prefill_late else gate))
        asking = asyncio.create_task(router.post())
        await prefill.wait_requests(1, path="/generate")
        await decode.wait_requests(1, path="/generate")
        if is_prefill_late:  # the client does not wait for what nobody reads
            assert bytes((await asking).body) == b'{"leg":"d"}'
            gate.set()
        else:
            assert await eventually(lambda: router.worker(prefill).num_inflight == 0)
            gate.set()
            assert bytes((await asking).body) == b'{"leg":"d"}'


async def test_a_stream_is_the_decodes() -> None:
    events = [event({"text": f"t{index}"}) for index in range(5)]
    async with one_pair() as (router, prefill, decode):
        prefill.queue(sse_answer([event({"text": "prefill"}), DONE]))
        decode.queue(sse_answer([*events, DONE]))
        received = await router.post("/generate", STREAM)
        assert received.chunks == [*events, DONE]
        assert received.header("content-type") == SSE_TYPE[1]


@pytest.mark.parametrize("body", [b'{"text":"hi"}', STREAM])
async def test_the_prefills_answer_is_drained_and_its_connection_used_again(body: bytes) -> None:
    async with one_pair() as (router, prefill, _):
        prefill.queue(answer(chunks=[b"x" * 50_000] * 20), answer(body=b"y" * 1_000_000))
        for _ in range(3):
            assert (await router.post("/generate", body)).status == 200
            await router.until_legs_are_over()
        requests = prefill.requests_for("/generate")
        assert [request.is_answered for request in requests] == [True] * 3
        assert len({request.connection_id for request in requests}) == 1
        assert prefill.requests_for("/abort_request") == []


async def test_a_prefill_that_does_not_finish_its_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hfx_router.exchange.pd._PREFILL_LINGER_S", 0.05)
    gate = asyncio.Event()
    async with one_pair() as (router, prefill, decode):
        prefill.queue(answer(body=b"{}", gate=gate))
        assert (await router.post()).status == 200
        assert router.worker(prefill).num_inflight == 1
        [request] = prefill.requests_for("/generate")
        await prefill.wait_disconnect(request)
        await prefill.wait_requests(1, path="/abort_request")
        assert decode.requests_for("/abort_request") == []
        assert router.router.registry.usable(router.worker(prefill).role)


async def test_worker_headers_name_both_legs() -> None:
    async with one_pair("--response-worker-headers") as (router, prefill, decode):
        received = await router.post()
        assert received.header("x-hfx-prefill-worker") == prefill.url.encode()
        assert received.header("x-hfx-decode-worker") == decode.url.encode()


async def test_http_10_client() -> None:
    async with one_pair() as (router, _, decode), router.client() as client:
        decode.queue(sse_answer([event({"a": 1}), DONE]))
        await client.send(
            b"POST /generate HTTP/1.0\r\ncontent-length: %d\r\n\r\n%b" % (len(STREAM), STREAM)
        )
        received = await client.read_response()
        assert bytes(received.body) == event({"a": 1}) + DONE
