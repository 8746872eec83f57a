"""The status that a worker answers is the status that the client receives."""

import pytest
from support.router import one_pair
from support.script import answer, stalled

STATUSES = [400, 401, 404, 408, 409, 413, 422, 429, 500, 501, 502, 503, 504, 529]


@pytest.mark.parametrize("body", [b'{"text":"a"}', b'{"text":"a","stream":true}'])
@pytest.mark.parametrize("failing", ["prefill", "decode"])
@pytest.mark.parametrize("status", STATUSES)
async def test_status_of_either_leg(status: int, failing: str, body: bytes) -> None:
    error = b'{"object": "error", "code":%d}' % status
    async with one_pair("--disable-retries") as (router, prefill, decode):
        bad, good = (prefill, decode) if failing == "prefill" else (decode, prefill)
        good.queue(stalled())  # otherwise the decode may have answered before the prefill fails
        bad.queue(answer(status=status, headers=[(b"Retry-After", b"9")], body=error))
        received = await router.post("/generate", body)
        assert received.status == status
        assert bytes(received.body) == error
        assert received.header("retry-after") == b"9"
        assert received.header("x-smg-error-code") is None  # nothing of ours
