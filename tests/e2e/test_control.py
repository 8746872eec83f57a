"""The control plane in front of servers."""

import aiohttp
from support.ask import get, post
from support.fleet import Fleet


async def test_health_and_readiness(pd_url: str) -> None:
    for path in ("/health", "/liveness", "/readiness", "/health_generate"):
        assert (await get(pd_url, path)).status == 200, path


async def test_models_and_infos(pd_url: str, unified_url: str) -> None:
    models = await get(pd_url, "/v1/models")
    assert [model["id"] for model in models.body["data"]] == ["tiny"]
    assert (await get(pd_url, "/v1/models/tiny")).body["id"] == "tiny"
    for path in ("/model_info", "/get_model_info"):
        assert (await get(pd_url, path)).body["is_generation"] is True
    info = (await get(pd_url, "/get_server_info")).body
    assert {len(info["prefill"]), len(info["decode"])} == {2}
    assert info["decode"][0]["disaggregation_mode"] == "decode"
    assert (await get(unified_url, "/server_info")).body["version"] == "0.5.23"


async def test_workers_and_loads(pd_url: str) -> None:
    workers = (await get(pd_url, "/workers")).body
    assert workers["stats"] == {"prefill_count": 2, "decode_count": 2, "regular_count": 0}
    prefills = [w for w in workers["workers"] if w["worker_type"] == "prefill"]
    assert all(worker["bootstrap_port"] for worker in prefills)
    loads = (await get(pd_url, "/v1/loads?include=core,disagg")).body
    assert len(loads["loads"]) == 4
    assert sorted(load["worker_type"] for load in loads["loads"]) == [
        "decode", "decode", "prefill", "prefill",
    ]  # fmt: skip


async def test_flush_cache_reaches_every_worker(pd_url: str) -> None:
    assert (await post(pd_url, "/flush_cache", {})).status == 200


async def test_tokenize(pd_url: str, direct_url: str) -> None:
    body = {"model": "tiny", "prompt": "hello world"}
    ours = await post(pd_url, "/v1/tokenize", body)
    theirs = await post(direct_url, "/v1/tokenize", body)
    assert ours.status == theirs.status == 200
    assert ours.body["tokens"] == theirs.body["tokens"]


async def test_metrics_count_what_was_served(fleet: Fleet, pd_url: str) -> None:
    body = {
        "text": "hi",
        "sampling_params": {"max_new_tokens": 4, "ignore_eos": True},
        "stream": True,
    }
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.post(pd_url + "/generate", json=body) as response:
                await response.read()
    metrics = await get(fleet.metrics_url("router-pd"), "/metrics")
    lines = dict(
        line.rsplit(" ", 1) for line in metrics.body.splitlines() if not line.startswith("#")
    )
    ttft = [float(v) for k, v in lines.items() if k.startswith("smg_router_ttft_seconds_count")]
    assert sum(ttft) >= 2
    tokens = [
        float(value) for key, value in lines.items() if key.startswith("smg_router_tokens_total")
    ]
    assert sum(tokens) >= 8
    assert any(
        key.startswith("hfx_worker_state") and value == "1.0" for key, value in lines.items()
    )


async def test_a_unified_server_is_refused_as_prefill(fleet: Fleet, pd_url: str) -> None:
    answer = await post(
        pd_url, "/workers", {"url": fleet.url("regular-0"), "worker_type": "prefill"}
    )
    assert answer.status == 202
    worker_id = answer.body["worker_id"]
    state = await get(pd_url, f"/workers/{worker_id}")
    for _ in range(50):
        if (state.body.get("job_status") or {}).get("status") == "failed":
            break
        state = await get(pd_url, f"/workers/{worker_id}")
    assert state.body["job_status"]["status"] == "failed"
    assert (await get(pd_url, "/workers")).body["total"] == 4
