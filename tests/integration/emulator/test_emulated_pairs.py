"""Prefill and decode workers that meet over real connections."""

import asyncio
import itertools
import json
import random
from typing import Any

import pytest
from support.ask import Answer, Json, get, post, stream
from support.emulators import is_free, running_pair, running_worker, url_of
from support.router import eventually

from hfx_sgl.emulator.desk import HandoffTimes
from hfx_sgl.emulator.worker import Worker
from hfx_sgl.types import Role

BODY: Json = {
    "text": "the quick brown",
    "sampling_params": {"max_new_tokens": 6, "ignore_eos": True},
}
ENDLESS: Json = {
    "text": "the quick brown", "sampling_params": {"max_new_tokens": 4000, "ignore_eos": True},
}  # fmt: skip
Pair = tuple[Worker, Worker]

_ROOMS = itertools.count(1000)


def in_room(body: Json, prefill: Worker, room: int | None = None) -> Json:
    """Return the body as a router sends it to both sides."""
    return {
        **body,
        "bootstrap_host": prefill.settings.host,
        "bootstrap_port": prefill.settings.bootstrap_port,
        "bootstrap_room": next(_ROOMS) if room is None else room,
    }


async def ask_both(pair: Pair, path: str, body: Json) -> tuple[Answer, Answer]:
    """Send a body to both sides of a pair."""
    full = in_room(body, pair[0])
    ours, theirs = await asyncio.gather(*(post(url_of(worker), path, full) for worker in pair))
    return ours, theirs


async def assert_free(*workers: Worker) -> None:
    assert await eventually(lambda: all(is_free(worker) for worker in workers))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", BODY),
        ("/generate", {**BODY, "text": ["a", "b", "c"]}),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "ignore_eos": True},
        ),
        ("/v1/completions", {"prompt": ["x", "y"], "max_tokens": 5, "ignore_eos": True}),
    ],
)
async def test_a_pair_says_what_a_unified_worker_says(
    pair: Pair, worker: Worker, path: str, body: Json
) -> None:
    _, decode = await ask_both(pair, path, body)
    unified = await post(url_of(worker), path, body)
    assert decode.status == unified.status == 200
    assert without_ids(decode.body) == without_ids(unified.body)
    await assert_free(*pair)


def without_ids(body: Any) -> Any:
    """Return what two workers have in common: not the ids and the times."""
    if isinstance(body, list):
        return [without_ids(item) for item in body]
    if "choices" in body:
        return [body["choices"], body["usage"]]
    return [body["text"], body["output_ids"], body["meta_info"]["finish_reason"]]


async def test_decode_tells_what_the_prefill_had_in_its_cache(pair: Pair) -> None:
    for cached in (0, 96):
        body = {**BODY, "text": "word" * 100 + str(cached)}
        legs = await ask_both(pair, "/generate", body)
        found = [leg.body["meta_info"]["cached_tokens"] for leg in legs]
        assert found == [pytest.approx(cached, abs=4)] * 2


async def test_prefill_says_one_token_and_the_prompt_s_log_probabilities(pair: Pair) -> None:
    body = {**BODY, "return_logprob": True, "logprob_start_len": 0}
    prefill, decode = await ask_both(pair, "/generate", body)
    assert prefill.body["output_ids"] == decode.body["output_ids"][:1]
    assert prefill.body["meta_info"]["finish_reason"] == {"type": "length", "length": 0}
    assert len(prefill.body["meta_info"]["input_token_logprobs"]) == 4
    assert decode.body["meta_info"]["input_token_logprobs"] == []
    assert len(decode.body["meta_info"]["output_token_logprobs"]) == 6


async def test_decode_streams_all_tokens(pair: Pair) -> None:
    full = in_room({**BODY, "stream": True}, pair[0])
    prefill = asyncio.create_task(post(url_of(pair[0]), "/generate", full))
    events = [event async for event in stream(url_of(pair[1]), "/generate", full)]
    assert [len(json.loads(event)["output_ids"]) for event in events[:-1]] == [1, 2, 3, 4, 5, 6]
    assert (await prefill).body.count("data: ") == 2
    await assert_free(*pair)


@pytest.mark.parametrize("first", [0, 1], ids=["prefill first", "decode first"])
async def test_either_side_may_come_first(pair: Pair, first: int) -> None:
    full = in_room(BODY, pair[0])
    early = asyncio.create_task(post(url_of(pair[first]), "/generate", full))
    assert await eventually(lambda: not pair[first].driver.is_idle)
    await asyncio.sleep(0.05)
    assert not early.done()
    late = await post(url_of(pair[1 - first]), "/generate", full)
    assert (await early).status == late.status == 200
    await assert_free(*pair)


@pytest.mark.parametrize("role", [Role.PREFILL, Role.DECODE])
async def test_without_a_room_it_is_a_400(pair: Pair, role: Role) -> None:
    worker = pair[0] if role is Role.PREFILL else pair[1]
    answer = await post(url_of(worker), "/generate", BODY)
    assert answer.status == 400
    assert "bootstrap room" in answer.body["error"]["message"]
    chat = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    streamed = await post(url_of(worker), "/v1/chat/completions", chat)
    assert (streamed.status, '"type":"BAD_REQUEST"' in streamed.body) == (200, True)
    await assert_free(worker)


async def test_what_kills_a_real_decode_is_a_400(pair: Pair) -> None:
    answer = await post(url_of(pair[1]), "/generate", {**BODY, "bootstrap_room": 7})
    assert answer.status == 400
    assert "bootstrap_host" in answer.body["error"]["message"]


@pytest.mark.parametrize("side", [0, 1], ids=["prefill", "decode"])
async def test_a_room_takes_one_request(pair: Pair, side: int) -> None:
    full = in_room(BODY, pair[0])
    first = asyncio.create_task(post(url_of(pair[side]), "/generate", full))
    assert await eventually(lambda: not pair[side].driver.is_idle)
    second = await post(url_of(pair[side]), "/generate", full)
    assert second.status == 400
    assert "in use" in second.body["error"]["message"]
    await post(url_of(pair[1 - side]), "/generate", full)
    assert (await first).status == 200
    await assert_free(*pair)


@pytest.mark.parametrize("side", [0, 1], ids=["prefill", "decode"])
async def test_one_side_alone_waits_until_it_is_aborted(pair: Pair, side: int) -> None:
    url = url_of(pair[side])
    full = in_room({**BODY, "rid": "lonely"}, pair[0])
    request = asyncio.create_task(post(url, "/generate", full))
    assert await eventually(lambda: not pair[side].driver.is_idle)
    await post(url, "/abort_request", {"rid": "lonely"})
    answer = await request
    assert answer.status == 500
    assert answer.body["type"] == "500"
    assert "Aborted" in answer.body["message"]
    await assert_free(*pair)


async def test_one_side_alone_gives_up_after_its_time() -> None:
    times = HandoffTimes(bootstrap_timeout_s=0.05, waiting_timeout_s=0.05)
    async with running_pair(handoff=times) as pair:
        for worker in pair:
            answer = await post(url_of(worker), "/generate", in_room(BODY, pair[0]))
            assert answer.status == 500
        await assert_free(*pair)


async def test_a_decode_that_gives_up_ends_the_prefill_s_request(pair: Pair) -> None:
    prefill, decode = pair
    prefill.driver.set_extra_step_s(0.5)
    full = in_room({**BODY, "rid": "r"}, prefill)
    requests = [asyncio.create_task(post(url_of(worker), "/generate", full)) for worker in pair]
    assert await eventually(
        lambda: (
            prefill.driver.load().num_running_reqs > 0
            or any(seq.is_granted for seq in prefill.desk.sequences)
        )
    )
    await post(url_of(decode), "/abort_request", {"rid": "r"})
    assert [answer.status for answer in await asyncio.gather(*requests)] == [500, 500]
    await assert_free(*pair)


async def test_a_prefill_that_gives_up_ends_the_decode_s_request(pair: Pair) -> None:
    prefill, _ = pair
    prefill.driver.set_extra_step_s(0.3)
    full = in_room({**BODY, "rid": "r"}, prefill)
    requests = [asyncio.create_task(post(url_of(worker), "/generate", full)) for worker in pair]
    assert await eventually(lambda: any(seq.is_granted for seq in prefill.desk.sequences))
    await post(url_of(prefill), "/abort_request", {"rid": "r"})
    answers = await asyncio.gather(*requests)
    assert answers[1].status == 500
    await assert_free(*pair)


async def test_a_prefill_that_dies_is_noticed_and_others_go_on() -> None:
    async with running_pair() as (doomed, decode), running_worker(Role.PREFILL) as other:
        doomed.driver.set_extra_step_s(60.0)
        full = in_room(BODY, doomed)
        prefill_leg = asyncio.create_task(post(url_of(doomed), "/generate", full))
        decode_leg = asyncio.create_task(post(url_of(decode), "/generate", full))
        assert await eventually(lambda: any(s.is_granted for s in doomed.desk.sequences))
        await doomed.die()
        answer = await decode_leg
        assert answer.status == 500
        assert "Lost connection" in answer.body["message"]
        with pytest.raises(Exception, match=r"disconnected|reset"):
            await prefill_leg
        assert (await ask_both((other, decode), "/generate", BODY))[1].status == 200
        await assert_free(decode, other)


async def test_a_prefill_that_is_not_there_is_a_500() -> None:
    times = HandoffTimes(dead_peer_delay_s=0.1)
    async with running_worker(Role.DECODE, handoff=times) as decode:
        loop = asyncio.get_running_loop()
        began_at_s = loop.time()
        body = {**BODY, "bootstrap_host": "127.0.0.1", "bootstrap_port": 9, "bootstrap_room": 5}
        answer = await post(url_of(decode), "/generate", body)
        assert answer.status == 500
        assert "Decode handshake failed" in answer.body["message"]
        assert loop.time() - began_at_s >= 0.1
        await assert_free(decode)


async def test_a_decode_dies_of_a_prefill_with_other_pages() -> None:
    async with (
        running_worker(Role.PREFILL, page_tokens=1) as prefill,
        running_worker(Role.DECODE, page_tokens=16) as decode,
        running_worker(Role.DECODE, page_tokens=1) as fitting,
    ):
        full = in_room(BODY, prefill)
        with pytest.raises(Exception, match=r"disconnected|reset"):
            await post(url_of(decode), "/generate", full)
        assert decode.died_of.startswith("page sizes: 1 at the prefill worker 127.0.0.1:")
        with pytest.raises(OSError, match="connect"):
            await get(url_of(decode), "/health")
        assert (await ask_both((prefill, fitting), "/generate", BODY))[1].status == 200
        await assert_free(prefill, fitting)


async def test_a_decode_that_dies_frees_the_prefill(pair: Pair) -> None:
    prefill, decode = pair
    prefill.driver.set_extra_step_s(0.2)
    full = in_room(ENDLESS, prefill)
    leg = asyncio.create_task(post(url_of(prefill), "/generate", full))
    other = asyncio.create_task(post(url_of(decode), "/generate", full))
    assert await eventually(lambda: any(seq.is_granted for seq in prefill.desk.sequences))
    await decode.die()
    assert (await leg).status == 500
    await asyncio.gather(other, return_exceptions=True)
    await assert_free(prefill)


async def test_the_bootstrap_server_tells_of_the_pool(pair: Pair) -> None:
    prefill, _ = pair
    url = f"http://127.0.0.1:{prefill.settings.bootstrap_port}"
    every = "prefill_dp_rank={0}&prefill_cp_rank={0}&target_tp_rank={0}&target_pp_rank={0}"
    assert (await get(url, "/health")).body == "OK"
    facts = (await get(url, "/route?" + every.format(-1))).body
    assert facts["prefill_http_port"] == prefill.settings.port
    assert facts["page_size"] == 1
    rank = (await get(url, "/route?" + every.format(0))).body
    assert rank == {"rank_ip": "127.0.0.1", "rank_port": prefill.settings.bootstrap_port}
    assert (await get(url, "/route")).status == 400
    assert (await get(url, "/nothing")).status == 404


async def test_workers_that_swap_their_roles_serve_the_other_way_round() -> None:
    async with running_pair(has_role_switch=True) as pair:
        assert (await ask_both(pair, "/generate", BODY))[1].status == 200
        for worker, role in zip(pair, ("decode", "prefill"), strict=True):
            answer = await post(url_of(worker), "/pd_role_switch", {"new_role": role})
            assert answer.status == 200
            assert (answer.body["success"], answer.body["new_role"]) == (True, role)
            mode = (await get(url_of(worker), "/model_info")).body["disaggregation_mode"]
            assert mode == role
        swapped = (pair[1], pair[0])
        prefill, decode = await ask_both(swapped, "/generate", BODY)
        assert (prefill.status, decode.status) == (200, 200)
        assert len(decode.body["output_ids"]) == 6
        await assert_free(*pair)


async def test_role_switches_that_are_refused(worker: Worker) -> None:
    unset = await post(url_of(worker), "/pd_role_switch", {"new_role": "prefill"})
    assert (unset.status, unset.body["safe_to_restore"]) == (400, True)
    async with running_pair(has_role_switch=True) as (prefill, _):
        url = url_of(prefill)
        same = await post(url, "/pd_role_switch", {"new_role": "prefill"})
        assert (same.status, same.body["message"]) == (200, "already in target role")
        full = in_room({**BODY, "rid": "w"}, prefill)
        waiting = asyncio.create_task(post(url, "/generate", full))
        assert await eventually(lambda: not prefill.driver.is_idle)
        busy = await post(url, "/pd_role_switch", {"new_role": "decode"})
        assert busy.status == 400
        assert "not idle" in busy.body["message"]
        assert busy.body["safe_to_restore"] is True
        await post(url, "/abort_request", {"rid": "w"})
        await waiting


async def test_many_requests_of_which_some_are_given_up() -> None:
    rng = random.Random(1)
    async with running_pair() as (prefill, decode), running_worker(Role.DECODE) as other:
        pairs = [(prefill, decode), (prefill, other)]

        async def one(number: int) -> int | None:
            body = {
                "text": "word" * rng.randrange(1, 400),
                "sampling_params": {"max_new_tokens": rng.randrange(1, 60), "ignore_eos": True},
                "stream": number % 2 == 0,
            }
            legs = asyncio.ensure_future(ask_both(pairs[number % 2], "/generate", body))
            await asyncio.wait([legs], timeout=rng.choice([0.0, 0.01, 0.05, 10.0]))
            if legs.cancel():
                await asyncio.gather(legs, return_exceptions=True)
                return None
            return (await legs)[1].status

        statuses = await asyncio.gather(*(one(number) for number in range(80)))
        assert set(statuses) == {200, None}
        await assert_free(prefill, decode, other)
