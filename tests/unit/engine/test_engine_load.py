import pytest
from support.engine_rig import EngineRig, make_spec

from hfx_sgl.prompt import Prompt
from hfx_sgl.types import Role


def test_an_idle_engine_reports_nothing() -> None:
    load = EngineRig(make_spec(page_tokens=16, kv_capacity_tokens=1000)).engine.load(1.0)
    assert (load.num_running_reqs, load.num_waiting_reqs, load.num_total_tokens) == (0, 0, 0)
    assert load.decode_moments == (0, 0, 0, 0, 0, 0)
    assert load.max_total_num_tokens == 992
    assert load.max_running_requests == 256
    assert load.utilization == 0


def test_requests_and_tokens_are_counted_where_they_are() -> None:
    rig = EngineRig(make_spec(max_running_requests=2, kv_capacity_tokens=1000))
    rig.submit("a", 100, 50)
    rig.submit("b", 50, 50)
    rig.submit("c", 30, 50)
    rig.run(0.0)
    load = rig.engine.load(0.0)
    # Those in a prefill step are neither waiting nor running.
    assert (load.num_running_reqs, load.num_waiting_reqs) == (0, 1)
    assert load.num_used_tokens == 150
    assert load.num_total_tokens == load.num_active_tokens == 180
    rig.run(rig.prefill_s((100, 0), (50, 0)) + rig.decode_s(2, 150, 5))
    load = rig.engine.load(rig.now_s)
    assert (load.num_running_reqs, load.num_waiting_reqs) == (2, 1)
    assert load.num_used_tokens == 160
    assert load.token_usage == 0.16
    # Nothing was found in the cache of late, so all of it will have to be computed.
    assert load.num_waiting_uncached_tokens == 30


def test_used_tokens_do_not_include_what_can_be_evicted() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", Prompt((1,), (100,)), 1)
    rig.run()
    assert rig.num_used_tokens == 0
    rig.submit("b", Prompt((1, 2), (100, 20)), 1)
    rig.run(rig.now_s)
    assert rig.num_used_tokens == 120


def test_prefill_steps_are_counted() -> None:
    rig = EngineRig(make_spec(chunked_prefill_tokens=64))
    rig.submit("a", 100, 1)
    rig.run(rig.prefill_s((64, 0)) + 1 / 1024)
    load = rig.engine.load(rig.now_s)
    assert load.total_prefill_uncached_tokens == 64
    assert load.num_waiting_uncached_tokens == 0  # the last chunk is being computed
    rig.run()
    load = rig.engine.load(rig.now_s)
    assert load.total_prefill_uncached_tokens == 100
    busy_s = rig.prefill_s((64, 0)) + rig.prefill_s((36, 64))
    assert load.total_prefill_busy_us == pytest.approx(busy_s * 1e6, abs=2)


def test_what_is_left_of_a_chunked_prompt_waits() -> None:
    rig = EngineRig(make_spec(chunked_prefill_tokens=64))
    rig.submit("a", 200, 1)
    rig.run(1 / 1024)
    assert rig.engine.load(rig.now_s).num_waiting_uncached_tokens == 136


def test_the_share_of_cached_tokens() -> None:
    rig = EngineRig(make_spec(chunked_prefill_tokens=64, max_running_requests=1))
    rig.submit("a", Prompt((1,), (60,)), 1)
    rig.run()
    assert rig.engine.load(rig.now_s).cache_hit_rate == 0
    rig.submit("b", Prompt((1, 2), (60, 100)), 1)
    rig.submit("c", 32, 1)
    rig.run(rig.now_s + 1 / 1024)
    load = rig.engine.load(rig.now_s)
    assert load.cache_hit_rate == 60 / 124
    # Over the last 15 s: 60 of 184. Waiting are 32 tokens and the 36 of the second chunk.
    assert load.num_waiting_uncached_tokens == int(32 * (1 - 60 / 184)) + 36
    rig.run()
    assert rig.engine.load(rig.now_s).cache_hit_rate == 0
    rig.submit("d", 40, 1, at_s=rig.now_s + 100)
    rig.submit("e", 32, 1)
    rig.run(rig.now_s)
    assert rig.engine.load(rig.now_s).num_waiting_uncached_tokens == 32


def test_decode_steps_are_counted_as_sums() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 100, 4)
    rig.submit("b", 50, 6)
    rig.run()
    two_us = rig.decode_s(2, 150, 3) * 1e6
    one_us = rig.decode_s(1, 53, 2) * 1e6
    assert rig.engine.load(rig.now_s).decode_moments == pytest.approx(
        (5, 8, two_us + one_us, 14, 2 * two_us + one_us, 8)
    )


def test_steps_count_as_soon_as_they_have_ended() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 100, 50)
    first_s = rig.prefill_s((100, 0))
    rig.run(first_s + rig.decode_s(1, 100, 7) + 1 / 1024)
    n, b, t_us, *_ = rig.engine.load(rig.now_s).decode_moments
    assert (n, b, t_us) == pytest.approx((7, 7, rig.decode_s(1, 100, 7) * 1e6))
    again = rig.engine.load(rig.now_s)
    assert again.decode_moments[:3] == (n, b, t_us)
    rig.run()
    assert rig.engine.load(rig.now_s).decode_moments[0] == 49


def test_the_rate_of_output_is_that_of_the_last_forty_steps() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 100, 150)
    first_s = rig.prefill_s((100, 0))
    rig.run(first_s + rig.decode_s(1, 100, 39))
    assert rig.engine.load(rig.now_s).gen_throughput == 0
    rig.run(first_s + rig.decode_s(1, 100, 41))
    rate = rig.engine.load(rig.now_s).gen_throughput
    assert rate == pytest.approx(40 / (first_s + rig.decode_s(1, 100, 40)))
    rig.run()
    rate = rig.engine.load(rig.now_s).gen_throughput
    assert rate == pytest.approx(40 / rig.decode_s(1, 180, 40))
    assert rig.engine.load(rig.now_s + 31).gen_throughput == 0


def test_it_does_not_matter_how_steps_come_to_be_looked_at() -> None:
    loads = []
    for pause_s in (10.0, 0.125):
        rig = EngineRig(make_spec())
        for name in "abc":
            rig.submit(name, 100, 150)
        for index in range(int(2.5 / pause_s) + 1):
            rig.run(min((index + 1) * pause_s, 2.5))
        loads.append(rig.engine.load(2.5))
    assert loads[0] == loads[1]


def test_finished_requests_add_up() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", Prompt((1,), (60,)), 4)
    rig.run()
    rig.submit("b", Prompt((1, 2), (60, 10)), 3)
    rig.run()
    load = rig.engine.load(rig.now_s)
    assert (load.num_finished, load.num_prompt_tokens) == (2, 130)
    assert (load.num_cached_tokens, load.num_generated_tokens) == (60, 7)


def test_a_prefill_engine_has_no_utilization() -> None:
    assert EngineRig(make_spec(Role.PREFILL)).engine.load(0.0).utilization == -1
