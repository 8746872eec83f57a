"""--api-key: who gets in, what they are told otherwise, and what the workers are shown."""

import json

import pytest
from support.router import one_pair, one_worker
from support.script import answer, stalled

KEY = ("--api-key", "sekret")

WRONG = {
    "none": [],
    "another key": [(b"authorization", b"Bearer wrong")],
    "another scheme": [(b"authorization", b"Basic sekret")],
    "no scheme": [(b"authorization", b"sekret")],
    "empty": [(b"authorization", b"Bearer ")],
    "a part of it": [(b"authorization", b"Bearer sekre")],
    "not ASCII": [(b"authorization", b"Bearer \xc3\xa9")],
    "another header": [(b"x-api-key", b"sekret")],
}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG.keys())
async def test_wrong_keys_are_401_with_a_reason(headers: list[tuple[bytes, bytes]]) -> None:
    async with one_worker(*KEY) as (router, worker):
        received = await router.post("/generate", headers=headers)
        assert received.status == 401
        assert received.header("www-authenticate") == b"Bearer"
        error = json.loads(received.body)["error"]
        assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
        assert "sekret" not in error["message"]
        assert (received.header("x-request-id") or b"").startswith(b"gnt-")
        assert worker.requests_for("/generate") == []


@pytest.mark.parametrize("value", [b"Bearer sekret", b"bearer sekret", b"BEARER  sekret"])
async def test_the_right_key_is_passed_on_to_the_worker(value: bytes) -> None:
    async with one_worker(*KEY) as (router, worker):
        received = await router.post("/generate", headers=[(b"authorization", value)])
        assert received.status == 200
        [sent] = worker.requests_for("/generate")
        assert [v for k, v in sent.headers if k == b"authorization"] == [value]


async def test_both_legs_and_their_aborts_are_shown_the_key() -> None:
    async with one_pair(*KEY, "--disable-retries") as (router, prefill, decode):
        prefill.queue(stalled())
        decode.queue(answer(status=400, body=b"{}"))
        received = await router.post(headers=[(b"authorization", b"Bearer sekret")])
        assert received.status == 400
        await prefill.wait_requests(1, path="/abort_request")
        for worker, path in (
            (prefill, "/generate"),
            (decode, "/generate"),
            (prefill, "/abort_request"),
        ):
            assert worker.requests_for(path)[0].header("authorization") == b"Bearer sekret"


async def test_a_wrong_key_is_refused_before_the_body_is_looked_at() -> None:
    async with one_worker(*KEY) as (router, _), router.client() as client:
        await client.send(b"POST /generate HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n{")
        assert (await client.read_response()).status == 401
        await client.send(
            b"POST /generate HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sekret\r\n"
            b"content-length: 2\r\n\r\n{}"
        )
        assert (await client.read_response()).status == 200
