"""What the two legs of a pair receive: the client's bytes, then the fields that pair them."""

import asyncio
import json
import re
from typing import Any

import pytest
from support.engine import EngineState
from support.mock_worker import RecordedRequest, RecordingWorker
from support.router import one_pair, pd_flags, running_router
from support.script import answer

TAIL = re.compile(
    rb'(,?)"bootstrap_host":"127\.0\.0\.1","bootstrap_port":8998,"bootstrap_room":(\d+)'
    rb'(?:,"rid":"([0-9a-f]{32})")?\}$'
)

# What the client sends, and the beginning of what both legs receive.
BODIES = {
    "numbers, order, whitespace": (
        b' {"text": "hi", "b":1.0,"a" : 1e3 , "t":0.7,\n"seed":12345678901234567890123 }\n',
        b' {"text": "hi", "b":1.0,"a" : 1e3 , "t":0.7,\n"seed":12345678901234567890123 ,',
    ),
    "unknown fields": (b'{"cache_salt":"s","x":[{}]}', b'{"cache_salt":"s","x":[{}],'),
    "repeated keys": (b'{"text":"a","text":"b"}', b'{"text":"a","text":"b",'),
    "empty object": (b"{ }", b"{ "),
    "pairing fields of a client": (
        rb'{"bootstrap\u005froom":5,"text":"hi","bootstrap_host":"evil","bootstrap_port":1,'
        rb'"decode_tp_size":4,"disagg_prefill_dp_rank":1,"bootstrap_pair_key":"k"}',
        b'{"text":"hi",',
    ),
    "nothing but pairing fields": (b'{"bootstrap_room":1}', b"{"),
}


def _generate(worker: RecordingWorker) -> list[RecordedRequest]:
    return worker.requests_for("/generate")


@pytest.mark.parametrize(("sent", "start"), BODIES.values(), ids=BODIES.keys())
async def test_both_legs_receive_the_same_bytes_paired_at_the_end(
    sent: bytes, start: bytes
) -> None:
    async with one_pair() as (router, prefill, decode):
        assert (await router.post("/generate", sent)).status == 200
        [received] = _generate(prefill)
        assert received.body == _generate(decode)[0].body
        tail = TAIL.search(received.body)
        assert tail is not None
        assert received.body[: tail.start()] + tail[1] == start
        assert 0 <= int(tail[2]) < 2**63
        assert tail[3] is not None
        assert list(json.loads(received.body))[-4:] == [
            "bootstrap_host", "bootstrap_port", "bootstrap_room", "rid"
        ]  # fmt: skip


async def test_both_legs_are_sent_at_the_same_time() -> None:
    gate = asyncio.Event()
    async with one_pair() as (router, prefill, decode):
        prefill.queue(answer(body=b"{}", gate=gate))
        decode.queue(answer(body=b"{}", gate=gate))
        asking = asyncio.create_task(router.post())
        # Neither has answered, and both have the request.
        await prefill.wait_requests(1, path="/generate")
        await decode.wait_requests(1, path="/generate")
        gate.set()
        assert (await asking).status == 200


async def test_every_request_has_a_room_and_an_id_of_its_own() -> None:
    async with one_pair() as (router, prefill, _), router.client() as client:
        body = b'{"text":"same"}'
        for _ in range(100):
            await client.send(
                b"POST /generate HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            await client.read_response()
        sent = [request.json() for request in _generate(prefill)]
        rooms = {fields["bootstrap_room"] for fields in sent}
        assert len(rooms) == 100
        assert len({fields["rid"] for fields in sent}) == 100
        assert all(0 <= room < 2**63 for room in rooms)
        assert max(rooms) >= 2**48  # they use their range


BATCHES = {
    "text": b'{"text":["a","b","c"]}',
    "one text": b'{"text":["a"]}',
    "input_ids": b'{"input_ids":[[1,2],[3],[4,5,6]]}',
    "null text": b'{"text":null,"input_ids":[[1],[2]]}',
}


@pytest.mark.parametrize("body", BATCHES.values(), ids=BATCHES.keys())
async def test_rooms_of_batches_never_overlap(body: bytes) -> None:
    """SGLang counts upwards from the room over the prompts of a batch."""
    async with one_pair() as (router, prefill, _):
        taken: set[int] = set()
        num_taken = 0
        for sent in [body, b'{"text":"single"}'] * 20:
            assert (await router.post("/generate", sent)).status == 200
            fields = _generate(prefill)[-1].json()
            prompts = fields.get("text") or fields.get("input_ids")
            num_rooms = len(prompts) if isinstance(prompts, list) else 1
            first = fields["bootstrap_room"]
            assert first + num_rooms <= 2**63
            taken.update(range(first, first + num_rooms))
            num_taken += num_rooms
        assert len(taken) == num_taken


async def test_the_rooms_of_a_large_batch_are_all_its_own() -> None:
    """Every request has a block of 2^16 rooms, and a batch must not count out of its own."""
    async with one_pair() as (router, prefill, decode):
        prompts = ",".join(['""'] * 40_000).encode()
        for _ in range(8):
            prefill.queue(answer(body=b"[]"))
            decode.queue(answer(body=b"[]"))
            assert (await router.post("/generate", b'{"text":[%b]}' % prompts)).status == 200
            await router.until_legs_are_over()
        for request in _generate(prefill):
            room = request.json()["bootstrap_room"]
            assert room >> 16 == (room + 40_000 - 1) >> 16


async def test_batch_of_completions() -> None:
    async with one_pair() as (router, prefill, decode):
        body = b'{"prompt":["a","b"]}'
        assert (await router.post("/v1/completions", body)).status == 200
        sent = [w.requests_for("/v1/completions")[0].body for w in (prefill, decode)]
        assert sent[0] == sent[1]
        assert json.loads(sent[0])["prompt"] == ["a", "b"]


@pytest.mark.parametrize(
    ("rid", "is_kept"),
    [('"mine"', True), ('["one","two"]', True), ('""', False), ("null", False), ("[]", False)],
)
async def test_a_clients_rid_is_kept_on_both_legs(rid: str, is_kept: bool) -> None:
    async with one_pair() as (router, prefill, decode):
        body = b'{"text":["a","b"],"rid":%b}' % rid.encode()
        await router.post("/generate", body)
        rids = [_generate(worker)[0].json()["rid"] for worker in (prefill, decode)]
        assert rids[0] == rids[1]
        if is_kept:
            assert rids[0] == json.loads(rid)
            assert _generate(prefill)[0].body.count(b'"rid"') == 1
        else:
            assert re.fullmatch(r"[0-9a-f]{32}", rids[0])


@pytest.mark.parametrize(("flags", "expected"), [((), 9123), (("none",), 9123), (("7001",), 7001)])
async def test_bootstrap_port_is_given_or_asked_for(flags: tuple[str, ...], expected: int) -> None:
    state = EngineState(disaggregation_mode="prefill", bootstrap_port=9123)
    async with (
        RecordingWorker(state=state) as prefill,
        RecordingWorker(role="decode") as decode,
        running_router(
            "--pd-disaggregation", "--prefill", prefill.url, *flags, "--decode", decode.url
        ) as router,
    ):
        await router.post()
        assert _generate(decode)[0].json()["bootstrap_port"] == expected


async def test_each_decode_is_told_the_prefill_that_was_chosen() -> None:
    states = [EngineState(disaggregation_mode="prefill", bootstrap_port=port) for port in (71, 72)]
    async with (
        RecordingWorker(state=states[0]) as first,
        RecordingWorker(state=states[1]) as second,
        RecordingWorker(role="decode") as decode,
        running_router(*pd_flags([first, second], [decode])) as router,
    ):
        for _ in range(4):
            await router.post()
        told = {
            (fields["bootstrap_port"], fields["bootstrap_room"])
            for fields in (request.json() for request in _generate(decode))
        }
        served: set[tuple[Any, Any]] = set()
        for port, prefill in ((71, first), (72, second)):
            assert len(_generate(prefill)) == 2
            served |= {(port, request.json()["bootstrap_room"]) for request in _generate(prefill)}
        assert told == served


@pytest.mark.parametrize("path", ["/generate", "/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("body", [b'{"n":2}', b'{"sampling_params":{"n":3}}', b'{"n":1000000}'])
async def test_several_samples_of_a_prompt_are_refused(path: str, body: bytes) -> None:
    async with one_pair() as (router, prefill, decode):
        received = await router.post(path, body)
        error = json.loads(received.body)["error"]
        assert (received.status, error["param"]) == (400, "n")
        assert [r for w in (prefill, decode) for r in w.requests if r.method == "POST"] == []


async def test_an_empty_batch_is_refused() -> None:
    async with one_pair() as (router, prefill, _):
        received = await router.post("/generate", b'{"text":[]}')
        assert received.status == 400
        assert json.loads(received.body)["error"]["param"] == "text"
        assert _generate(prefill) == []


async def test_ipv6_addresses_are_bracketed() -> None:
    prefill, decode = RecordingWorker(role="prefill"), RecordingWorker(role="decode")
    prefill.host = decode.host = "::1"
    async with prefill, decode:
        urls = [f"http://[::1]:{worker.port}" for worker in (prefill, decode)]
        flags = ("--pd-disaggregation", "--prefill", urls[0], "--decode", urls[1])
        async with running_router(*flags) as router:
            assert (await router.post()).status == 200
        [received] = _generate(decode)
        assert received.json()["bootstrap_host"] == "[::1]"
        assert received.header("host") == b"[::1]:%d" % decode.port
