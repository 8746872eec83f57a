"""What a worker tells of itself."""

import asyncio

import pytest
from support.ask import Json, get, post
from support.emulators import MODEL, running_pair, running_worker, url_of
from support.router import eventually

from hfx_sgl.emulator.worker import Worker

BODY: Json = {"text": "hello", "sampling_params": {"max_new_tokens": 6, "ignore_eos": True}}
ENDLESS: Json = {**BODY, "sampling_params": {"max_new_tokens": 4000, "ignore_eos": True}}


async def test_server_info_says_that_it_is_emulated(worker: Worker) -> None:
    info = (await get(url_of(worker), "/server_info")).body
    assert info["emulated"] is True
    assert info["emulated_profile"] == {"name": "flat", "source": "made up", "device": "no device"}
    assert info["version"] == "0.5.23"
    assert info["disaggregation_mode"] == "null"
    assert info["max_total_num_tokens"] == 16_384
    assert (await get(url_of(worker), "/get_server_info")).body.keys() == info.keys()


async def test_model_info_and_models(worker: Worker) -> None:
    info = (await get(url_of(worker), "/model_info")).body
    assert (info["model_path"], info["served_model_name"]) == ("org/model", MODEL)
    models = (await get(url_of(worker), "/v1/models")).body["data"]
    assert [(model["id"], model["max_model_len"]) for model in models] == [(MODEL, 4096)]
    assert (await get(url_of(worker), f"/v1/models/{MODEL}")).body["id"] == MODEL
    absent = await get(url_of(worker), "/v1/models/absent")
    assert (absent.status, absent.body["error"]["code"]) == (404, "model_not_found")


async def test_loads_follow_the_work(worker: Worker) -> None:
    url = url_of(worker)
    request = asyncio.create_task(post(url, "/generate", {**ENDLESS, "rid": "r"}))
    assert await eventually(lambda: worker.driver.load().num_running_reqs == 1)
    load = (await get(url, "/v1/loads?include=core")).body["loads"][0]
    assert load["num_running_reqs"] == 1
    assert load["num_used_tokens"] >= 2
    assert "queues" not in load
    await post(url, "/abort_request", {"rid": "r"})
    await request
    load = (await get(url, "/v1/loads")).body["loads"][0]
    assert load["num_running_reqs"] == load["num_active_tokens"] == 0
    assert load["total_prefill_uncached_tokens"] == 2
    assert load["decode_moments"][0] >= 1
    assert load["disaggregation"]["mode"] == "null"
    assert load["queues"]["waiting"] == 0
    assert load["memory"]["token_capacity"] == 16_384


@pytest.mark.parametrize(
    ("query", "status"), [("include=foo", 500), ("dp_rank=x", 400), ("dp_rank=3", 200)]
)
async def test_odd_questions_about_load(worker: Worker, query: str, status: int) -> None:
    answer = await get(url_of(worker), f"/v1/loads?{query}")
    assert answer.status == status
    if status == 200:
        assert answer.body["loads"] == []


async def test_loads_as_prometheus_text(worker: Worker) -> None:
    text = (await get(url_of(worker), "/v1/loads?format=prometheus")).body
    assert 'sglang_max_total_num_tokens{dp_rank="0"} 16384' in text
    assert 'sglang_disagg_prefill_bootstrap_queue_reqs{dp_rank="0"} 0' in text
    assert "sglang_dp_rank" not in text


async def test_metrics_count_what_was_served(worker: Worker) -> None:
    url = url_of(worker)
    await post(url, "/generate", BODY)
    await post(url, "/generate", {**BODY, "stream": True})
    text = (await get(url, "/metrics")).body
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    model = f'engine_type="unified",model_name="{MODEL}"'
    by_name = {name.replace(" ", ""): float(value) for name, value in lines.items()}

    def total(name: str) -> float:
        found = [value for key, value in by_name.items() if key.startswith(f"sglang:{name}{{")]
        assert found, name
        return sum(found)

    assert total("num_requests_total") == 2
    assert total("prompt_tokens_total") == 4
    assert total("generation_tokens_total") == 12
    assert total("time_to_first_token_seconds_count") == 2
    assert total("inter_token_latency_seconds_count") == 10
    assert total("e2e_request_latency_seconds_count") == 2
    assert total("queue_time_seconds_count") == 2
    assert total("num_running_reqs") == 0
    assert total("max_total_num_tokens") == 16_384
    assert 'is_streaming="true"' in text
    assert any(f'model_name="{MODEL}"' in key for key in by_name), model


async def test_prefill_and_decode_name_their_engine_type() -> None:
    async with running_pair() as pair:
        for worker, kind in zip(pair, ("prefill", "decode"), strict=True):
            assert f'engine_type="{kind}"' in (await get(url_of(worker), "/metrics")).body


async def test_a_starting_worker_is_not_healthy() -> None:
    async with running_worker(startup_s=0.3, is_started=False) as worker:
        url = url_of(worker)
        for path in ("/health", "/ready", "/health_generate"):
            assert (await get(url, path)).status == 503
        assert (await post(url, "/generate", BODY)).status == 503
        await asyncio.sleep(0.3)
        assert (await get(url, "/health")).status == 200
        assert (await post(url, "/generate", BODY)).status == 200


async def test_tokens_there_and_back(worker: Worker) -> None:
    url = url_of(worker)
    one = (await post(url, "/tokenize", {"prompt": "hello world"})).body
    assert (one["count"], one["max_model_len"]) == (3, 4096)
    assert (await post(url, "/v1/detokenize", {"tokens": one["tokens"]})).body == {
        "text": "hello world"
    }
    many = (await post(url, "/v1/tokenize", {"prompt": ["hello world", "b"]})).body
    assert many["tokens"][0] == one["tokens"]
    assert many["count"] == [3, 1]
    chat = {"messages": [{"role": "user", "content": "hello world"}]}
    assert (await post(url, "/tokenize", chat)).body["tokens"] == one["tokens"]


async def test_flush_cache_waits_for_an_idle_engine(worker: Worker) -> None:
    url = url_of(worker)
    request = asyncio.create_task(post(url, "/generate", {**ENDLESS, "rid": "r"}))
    assert await eventually(lambda: not worker.driver.is_idle)
    assert (await post(url, "/flush_cache", {})).status == 400
    await post(url, "/abort_request", {"rid": "r"})
    await request
    assert (await post(url, "/flush_cache", {})).status == 200
