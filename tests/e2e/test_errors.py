"""A worker's own errors reach the client as the worker wrote them."""

import pytest
from support.ask import Json, get, post

SAMPLING = {"temperature": 0, "max_new_tokens": 2}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"sampling_params": SAMPLING}),
        ("/generate", {"text": "a " * 10_000, "sampling_params": SAMPLING}),
        ("/generate", {"text": "hello", "sampling_params": {"temperature": -1}}),
        ("/v1/chat/completions", {"model": "tiny", "messages": []}),
        (
            "/v1/chat/completions",
            {"model": "tiny", "messages": [{"role": "user"}], "max_tokens": "x"},
        ),
        ("/v1/completions", {"model": "tiny", "prompt": "hi", "n": 0}),
    ],
)
async def test_client_errors_survive(pd_url: str, direct_url: str, path: str, body: Json) -> None:
    ours = await post(pd_url, path, body)
    theirs = await post(direct_url, path, body)
    assert 400 <= theirs.status < 500
    assert (ours.status, ours.body) == (theirs.status, theirs.body)
    assert ours.headers["content-type"] == theirs.headers["content-type"]


async def test_client_errors_take_nobody_out_of_service(pd_url: str) -> None:
    for _ in range(25):
        answer = await post(pd_url, "/generate", {"sampling_params": SAMPLING})
        assert answer.status == 400
    workers = (await get(pd_url, "/workers")).body["workers"]
    assert len(workers) == 4
    assert all(worker["is_healthy"] for worker in workers)
    answer = await post(pd_url, "/generate", {"text": "hello", "sampling_params": SAMPLING})
    assert answer.status == 200


async def test_bootstrap_fields_of_a_client_cannot_kill_a_decode_server(pd_url: str) -> None:
    # A room without a host ends the decode scheduler when it gets there.
    body = {"text": "hello", "sampling_params": SAMPLING, "bootstrap_room": 7}
    for _ in range(4):
        answer = await post(pd_url, "/generate", {**body, "bootstrap_host": None})
        assert answer.status == 200
    assert (await get(pd_url, "/readiness")).status == 200


async def test_answers_name_the_request(pd_url: str) -> None:
    body = {"text": "hello", "sampling_params": SAMPLING}
    answer = await post(pd_url, "/generate", body, {"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    answer = await post(pd_url, "/generate", body)
    assert answer.headers["x-request-id"].startswith("gnt-")
