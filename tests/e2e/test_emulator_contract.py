"""The emulated worker against the real server: the same requests, answers compared by field."""

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.ask import Json, wait_busy
from support.contract import Reply, ask, differences
from support.fleet import Fleet, plan_emulated

from hfx_sgl.types import Role

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.parametrize("fleet", ["real"], indirect=True, scope="session"),
]

ALLOWED = (
    "embedding: missing",  # /model_info: of another kind of model
    "accelerator:",  # the emulated one has a name, a CPU has none
    "cached_tokens_details:",  # depends on what was cached before
    "decode_throughput:",  # says something only when several steps were observed
    "utilization:",
    "prompt_tokens_details:",
    "bytes:",  # some tokens of a real model have no text
)
"""Differences that stand for nothing a router could depend on."""

T = "the quick brown fox jumps"
S: Json = {"temperature": 0, "max_new_tokens": 4, "ignore_eos": True}
G: Json = {"text": T, "sampling_params": S}
C: Json = {
    "model": "tiny", "messages": [{"role": "user", "content": "hello world"}], "max_tokens": 4,
    "temperature": 0, "ignore_eos": True,
}  # fmt: skip
P: Json = {
    "model": "tiny", "prompt": "the quick brown", "max_tokens": 4, "temperature": 0,
    "ignore_eos": True,
}  # fmt: skip
LONG = "a " * 10_000
LONG_CHAT = [{"role": "user", "content": LONG}]
SHORT: Json = {**S, "max_new_tokens": 2}
PARTS = [{"type": "text", "text": "hi"}]
STREAM: Json = {"stream": True}
USAGE: Json = {**STREAM, "stream_options": {"include_usage": True}}
LP: Json = {"return_logprob": True, "logprob_start_len": 0}
TOP: Json = {
    **LP, "top_logprobs_num": 2, "token_ids_logprob": [3, 4], "return_text_in_logprobs": True,
}  # fmt: skip
ECHO: Json = {"echo": True, "logprobs": 1}

GENERATE, CHAT, COMPLETIONS = "/generate", "/v1/chat/completions", "/v1/completions"

GETS = (
    "/health", "/ready", "/model_info", "/get_model_info", "/v1/models", "/v1/models/tiny",
    "/v1/models/absent", "/v1/loads", "/v1/loads?include=core", "/v1/loads?include=disagg,queues",
    "/v1/loads?include=foo", "/v1/loads?dp_rank=3", "/v1/loads?dp_rank=x", "/get_load", "/nothing",
    "/generate", "/ping",
)  # fmt: skip

POSTS: tuple[tuple[str, str, Any], ...] = (
    ("generate", GENERATE, G),
    ("ids", GENERATE, {"input_ids": [5, 6, 7, 8], "sampling_params": S}),
    ("generate stream", GENERATE, {**G, **STREAM}),
    ("batch", GENERATE, {**G, "text": [T, "hello"]}),
    ("batch stream", GENERATE, {**G, "text": [T, "hello"], **STREAM}),
    ("batch of ids", GENERATE, {"input_ids": [[5, 6], [7, 8, 9]], "sampling_params": S}),
    ("batch of one", GENERATE, {**G, "text": [T]}),
    ("samples", GENERATE, {"text": T, "sampling_params": {**S, "n": 2}}),
    ("samples of a batch", GENERATE, {"text": [T, "x"], "sampling_params": {**S, "n": 2}}),
    ("params each", GENERATE, {"text": [T, "x"], "sampling_params": [S, SHORT]}),
    ("rid", GENERATE, {**G, "rid": "abc"}),
    ("rid batch", GENERATE, {**G, "text": [T, "b"], "rid": "abc"}),
    ("logprobs", GENERATE, {**G, "return_logprob": True}),
    ("prompt logprobs", GENERATE, {**G, **LP}),
    ("top logprobs", GENERATE, {**G, **TOP}),
    ("logprobs stream", GENERATE, {**G, **TOP, **STREAM}),
    ("nothing new", GENERATE, {"text": T, "sampling_params": {"max_new_tokens": 0}}),
    ("unknown field", GENERATE, {**G, "foo": 3}),
    ("priority", GENERATE, {**G, "priority": 3}),
    ("no json", GENERATE, "{bad"),
    ("no object", GENERATE, "[1]"),
    ("no prompt", GENERATE, {"sampling_params": S}),
    ("wrong text", GENERATE, {**G, "text": 5}),
    ("wrong stream", GENERATE, {**G, "stream": "maybe"}),
    ("no ids", GENERATE, {"input_ids": [], "sampling_params": S}),
    ("too long", GENERATE, {**G, "text": LONG}),
    ("too long stream", GENERATE, {**G, "text": LONG, **STREAM}),
    ("too much", GENERATE, {"text": T, "sampling_params": {**S, "max_new_tokens": 100_000}}),
    ("temperature", GENERATE, {"text": T, "sampling_params": {"temperature": -1}}),
    ("negative", GENERATE, {"text": T, "sampling_params": {"max_new_tokens": -1}}),
    ("unknown param", GENERATE, {"text": T, "sampling_params": {"foo": 1}}),
    ("wrong param", GENERATE, {"text": T, "sampling_params": {"max_new_tokens": "a"}}),
    ("chat", CHAT, C),
    ("chat stream", CHAT, {**C, **STREAM}),
    ("chat usage", CHAT, {**C, **USAGE}),
    ("chat logprobs", CHAT, {**C, "logprobs": True, "top_logprobs": 2}),
    ("chat samples", CHAT, {**C, "n": 2}),
    ("chat parts", CHAT, {**C, "messages": [{"role": "user", "content": PARTS}]}),
    ("chat rid", CHAT, {**C, "rid": "mine"}),
    ("chat empty", CHAT, {**C, "messages": []}),
    ("chat without messages", CHAT, {"model": "tiny"}),
    ("chat without content", CHAT, {"model": "tiny", "messages": [{"role": "user"}]}),
    ("chat role", CHAT, {"model": "tiny", "messages": [{"role": "foo", "content": "a"}]}),
    ("chat no json", CHAT, "{bad"),
    ("chat without model", CHAT, {"messages": C["messages"], "max_tokens": 2, "ignore_eos": True}),
    ("chat too long", CHAT, {**C, "messages": LONG_CHAT}),
    ("chat too long stream", CHAT, {**C, "messages": LONG_CHAT, **STREAM}),
    ("chat temperature", CHAT, {**C, "temperature": -1}),
    ("chat negative", CHAT, {**C, "max_tokens": -1}),
    ("completion", COMPLETIONS, P),
    ("completion stream", COMPLETIONS, {**P, **STREAM}),
    ("completion usage", COMPLETIONS, {**P, **USAGE}),
    ("completion batch", COMPLETIONS, {**P, "prompt": ["a b", "c d"]}),
    ("completion ids", COMPLETIONS, {**P, "prompt": [5, 6, 7]}),
    ("completion batch of ids", COMPLETIONS, {**P, "prompt": [[5, 6, 7], [8, 9]]}),
    ("completion logprobs", COMPLETIONS, {**P, "logprobs": 1}),
    ("completion echo", COMPLETIONS, {**P, "echo": True}),
    ("completion echo logprobs", COMPLETIONS, {**P, **ECHO}),
    ("completion samples", COMPLETIONS, {**P, "n": 2}),
    ("completion without prompt", COMPLETIONS, {"model": "tiny"}),
    ("completion too long", COMPLETIONS, {**P, "prompt": LONG}),
    ("tokenize", "/v1/tokenize", {"model": "tiny", "prompt": "hello world"}),
    ("tokenize batch", "/tokenize", {"model": "tiny", "prompt": ["hello", "b"]}),
    ("tokenize nothing", "/tokenize", {"model": "tiny"}),
    ("detokenize", "/v1/detokenize", {"model": "tiny", "tokens": [5, 6, 7]}),
    ("detokenize batch", "/detokenize", {"model": "tiny", "tokens": [[5, 6, 7], [8]]}),
    ("flush", "/flush_cache", {}),
    ("abort unknown", "/abort_request", {"rid": "zzz"}),
    ("abort nothing", "/abort_request", {}),
    ("slow down", "/slow_down", {"forward_sleep_time": 0.001}),
    ("slow down off", "/slow_down", {"forward_sleep_time": None}),
    ("slow down wrong", "/slow_down", {"forward_sleep_time": "x"}),
    ("pause wrong", "/pause_generation", {"mode": "zzz"}),
    ("role switch unset", "/pd_role_switch", {"new_role": "prefill"}),
    ("role switch wrong", "/pd_role_switch", {"new_role": "zzz"}),
    ("embeddings", "/v1/embeddings", {"model": "tiny", "input": "hi"}),
)  # fmt: skip

PAIRED: tuple[tuple[str, str, Any], ...] = (
    ("generate", GENERATE, G),
    ("generate stream", GENERATE, {**G, **STREAM}),
    ("logprobs", GENERATE, {**G, **TOP}),
    ("batch", GENERATE, {**G, "text": [T, "hello"]}),
    ("one token", GENERATE, {"text": T, "sampling_params": {**S, "max_new_tokens": 1}}),
    ("too long", GENERATE, {**G, "text": LONG}),
    ("chat", CHAT, C),
    ("chat stream", CHAT, {**C, **STREAM}),
    ("completion", COMPLETIONS, P),
    ("completion echo logprobs", COMPLETIONS, {**P, **ECHO}),
)

_rooms = itertools.count(7_000_000, 100)


@pytest.fixture(scope="session")
def emulated(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Role, str]]:
    """The URL of an emulated server of each role, beside the real ones."""
    log_dir: Path = tmp_path_factory.mktemp("contract-logs")
    plans = {
        # No role: those who have one are forks of SGLang's process.
        role: replace(plan_emulated(log_dir, role, 0, slot), name=f"emulated-{role}", role=None)
        for slot, role in enumerate(Role)
    }
    fleet.cluster.add(*plans.values())
    yield {role: plan.url for role, plan in plans.items()}
    for plan in plans.values():
        fleet.cluster.stop(plan.name)


def assert_alike(real: Reply, ours: Reply) -> None:
    assert real.status == ours.status, (real, ours)
    if real.content_type is not None:
        assert real.content_type == ours.content_type
    found = differences(real.content, ours.content)
    found = [line for line in found if not any(part in line for part in ALLOWED)]
    assert found == []


def real_url(fleet: Fleet, role: Role) -> str:
    return fleet.url(f"{role.value}-0")


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("path", GETS)
async def test_gets(fleet: Fleet, emulated: dict[Role, str], role: Role, path: str) -> None:
    real = await ask(real_url(fleet, role), "GET", path, None)
    ours = await ask(emulated[role], "GET", path, None)
    if path == "/v1/loads" or path.startswith("/v1/loads?include=d"):
        for reply in (real, ours):
            assert len(reply.content["loads"]) == 1
    assert_alike(real, ours)


@pytest.mark.parametrize(("path", "body"), [p[1:] for p in POSTS], ids=[p[0] for p in POSTS])
async def test_posts(fleet: Fleet, emulated: dict[Role, str], path: str, body: Any) -> None:
    real = await ask_token_by_token(real_url(fleet, Role.REGULAR), path, body)
    ours = await ask(emulated[Role.REGULAR], "POST", path, body)
    assert_alike(real, ours)


@pytest.mark.parametrize(("path", "body"), [p[1:] for p in PAIRED], ids=[p[0] for p in PAIRED])
async def test_pairs(fleet: Fleet, emulated: dict[Role, str], path: str, body: Any) -> None:
    real = {role: real_url(fleet, role) for role in (Role.PREFILL, Role.DECODE)}
    replies = await ask_pair(real, path, body)
    for _ in range(20):
        if not any(map(begins_with_several_tokens, replies)):
            break
        replies = await ask_pair(real, path, body)
    for theirs, mine in zip(replies, await ask_pair(emulated, path, body), strict=True):
        assert_alike(theirs, mine)


async def ask_token_by_token(url: str, path: str, body: Any) -> Reply:
    """Ask again while a busy machine makes SGLang put several tokens into the first event."""
    reply = await ask(url, "POST", path, body)
    for _ in range(20):
        if not begins_with_several_tokens(reply):
            break
        reply = await ask(url, "POST", path, body)
    return reply


def begins_with_several_tokens(reply: Reply) -> bool:
    if not isinstance(reply.content, dict) or "events" not in reply.content:
        return False
    first = reply.content["events"][0]
    return bool(first.get("meta_info", {}).get("completion_tokens", 1) > 1)


async def ask_pair(urls: dict[Role, str], path: str, body: Json) -> list[Reply]:
    """Send a body to prefill and decode, with a room for each prompt."""
    prefill_port = int(urls[Role.PREFILL].rpartition(":")[2])
    full = {
        **body, "bootstrap_host": "127.0.0.1", "bootstrap_port": prefill_port + 1,
        "bootstrap_room": next(_rooms),
    }  # fmt: skip
    return list(
        await asyncio.gather(
            *(ask(urls[role], "POST", path, full) for role in (Role.PREFILL, Role.DECODE))
        )
    )


@pytest.mark.parametrize("role", [Role.PREFILL, Role.DECODE])
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("path", "body"), [(GENERATE, G), (CHAT, C)], ids=["generate", "chat"])
async def test_without_a_room(
    fleet: Fleet, emulated: dict[Role, str], role: Role, path: str, body: Json, streams: bool
) -> None:
    full = {**body, "stream": streams}
    real = await ask(real_url(fleet, role), "POST", path, full)
    assert_alike(real, await ask(emulated[role], "POST", path, full))


@pytest.mark.parametrize("role", [Role.REGULAR, Role.PREFILL, Role.DECODE])
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", [GENERATE, CHAT, COMPLETIONS])
async def test_aborts(
    fleet: Fleet, emulated: dict[Role, str], role: Role, path: str, streams: bool
) -> None:
    replies = []
    for url in (real_url(fleet, role), emulated[role]):
        replies.append(await ask_and_abort(url, path, streams=streams))
    real, ours = replies
    if role is Role.REGULAR:
        # Where it was aborted depends on how fast it is.
        real, ours = (Reply(r.status, r.content_type, without_amounts(r.content)) for r in replies)
    assert_alike(real, ours)


async def ask_and_abort(url: str, path: str, *, streams: bool) -> Reply:
    """Ask for more than can come, wait until the server works on it, and abort."""
    bodies = {
        GENERATE: {**G, "sampling_params": {**S, "max_new_tokens": 3000}},
        CHAT: {**C, "max_tokens": 3000},
        COMPLETIONS: {**P, "max_tokens": 3000},
    }
    port = int(url.rpartition(":")[2])
    body = {
        **bodies[path], "stream": streams, "rid": f"abort-{next(_rooms)}",
        "bootstrap_host": "127.0.0.1", "bootstrap_port": port + 1, "bootstrap_room": next(_rooms),
    }  # fmt: skip
    request = asyncio.create_task(ask(url, "POST", path, body))
    await wait_busy(url)
    await asyncio.sleep(0.3)
    await ask(url, "POST", "/abort_request", {"rid": body["rid"]})
    return await request


def without_amounts(content: Any) -> Any:
    """Return a content without what depends on the number of tokens."""
    if isinstance(content, list):
        return [without_amounts(item) for item in content][:1]
    if not isinstance(content, dict):
        return content
    amounts = ("completion_tokens", "end", "output_ids", "length")
    return {name: without_amounts(v) for name, v in content.items() if name not in amounts}


async def test_server_info_has_real_fields_and_says_what_it_is(
    fleet: Fleet, emulated: dict[Role, str]
) -> None:
    for role in Role:
        real = (await ask(real_url(fleet, role), "GET", "/server_info", None)).content
        ours = (await ask(emulated[role], "GET", "/server_info", None)).content
        assert ours["emulated"] is True
        assert ours.keys() - real.keys() == {"emulated", "emulated_kv", "emulated_profile"}
        shared = {name: real[name] for name in ours if name in real}
        mine = {name: ours[name] for name in shared}
        free = (
            "context_length", "max_queued_requests", "device", "disaggregation_transfer_backend",
            "chunked_prefill_size", "internal_states", "disable_radix_cache", "api_key",
        )  # fmt: skip
        found = differences(
            {k: v for k, v in shared.items() if k not in free},
            {k: v for k, v in mine.items() if k not in free},
        )
        assert found == []


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/route",
        "/route?prefill_dp_rank=-1&prefill_cp_rank=-1&target_tp_rank=-1&target_pp_rank=-1",
        "/route?prefill_dp_rank=0&prefill_cp_rank=0&target_tp_rank=0&target_pp_rank=0",
    ],
)
async def test_bootstrap_server(fleet: Fleet, emulated: dict[Role, str], path: str) -> None:
    replies = []
    for url in (real_url(fleet, Role.PREFILL), emulated[Role.PREFILL]):
        host, _, port = url.rpartition(":")
        replies.append(await ask(f"{host}:{int(port) + 1}", "GET", path, None))
    assert_alike(*replies)
