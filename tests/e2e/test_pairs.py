"""What servers say of themselves when they are to be paired, and what the router makes of it."""

import asyncio
from dataclasses import replace

import pytest
from support.ask import Json, get, post
from support.fleet import Fleet

from hfx_sgl.types import Role

SHORT: Json = {"text": "hello", "sampling_params": {"temperature": 0, "max_new_tokens": 4}}


async def test_servers_started_alike_fit(
    fleet: Fleet, pd_url: str, request: pytest.FixtureRequest
) -> None:
    await asyncio.gather(*(post(pd_url, "/generate", SHORT) for _ in range(8)))
    shown = (await get(pd_url, "/debug/pairs")).body
    assert len(shown["pairs"]) == 4
    for pair in shown["pairs"]:
        assert pair["usable"], pair
        assert (pair["problem"], pair["reason"]) == (None, None)
    assert shown["counts"]["incompatible"] == 0
    assert shown["counts"]["ok"] >= 2
    if "real" in request.node.name:
        # Everything that is compared was told.
        assert [pair["notes"] for pair in shown["pairs"]] == [[]] * 4


async def test_a_decode_server_with_other_pages_gets_nothing_and_lives(fleet: Fleet) -> None:
    prefill, decode = fleet.add_server(Role.PREFILL), fleet.add_server(Role.DECODE)
    slot = fleet.next_slot
    fleet.next_slot += 1
    plan = fleet.plan_one(Role.DECODE, slot, slot)
    other = replace(plan, argv=(*plan.argv, "--page-size", "16"))
    fleet.cluster.add(other)
    router = fleet.add_router([prefill, decode, other], "--policy", "round_robin")
    answers = [await post(router, "/generate", SHORT) for _ in range(6)]
    assert [answer.status for answer in answers] == [200] * 6
    pairs = {pair["decode"]: pair for pair in (await get(router, "/debug/pairs")).body["pairs"]}
    assert pairs[decode.url]["link"] == "ok"
    assert pairs[other.url]["usable"] is False
    assert pairs[other.url]["problem"] == "page_size: prefill 1, decode 16"
    # SGLang's decode scheduler dies of the first request for such a pair.
    assert (await get(other.url, "/health")).status == 200
    loads = (await get(other.url, "/v1/loads")).body["loads"]
    assert all(load["num_total_tokens"] == 0 for load in loads)
    for server in (prefill, decode, other):
        fleet.cluster.stop(server.name)


async def test_a_prefill_server_that_cannot_be_met_is_told_and_left_out(fleet: Fleet) -> None:
    """The router was given a port where nobody listens: three requests find out, the fourth asks
    nobody."""
    prefill, decode = (fleet.cluster.instances[name].plan for name in ("prefill-0", "decode-0"))
    assert prefill.bootstrap_port is not None
    unmet = replace(prefill, bootstrap_port=prefill.bootstrap_port + 5)
    router = fleet.add_router([unmet, decode], "--policy", "round_robin", "--disable-retries")
    native = [
        post(router, "/generate", SHORT),
        post(router, "/generate", {**SHORT, "stream": True}),
    ]
    chat: Json = {"model": "x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    await asyncio.gather(*native, post(router, "/v1/chat/completions", chat))
    (pair,) = (await get(router, "/debug/pairs")).body["pairs"]
    assert pair["link"] == "down", pair
    assert pair["failures_in_a_row"] == 3
    assert pair["reason"].startswith("Decode handshake failed: ")
    assert pair["notes"]
    refused = await post(router, "/generate", SHORT)
    assert refused.status == 503
    assert refused.took_s < 1.0
    assert refused.body["error"]["code"] == "no_usable_pair"
    assert (await get(router, "/readiness")).status == 503
