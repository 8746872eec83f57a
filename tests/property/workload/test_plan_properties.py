"""What holds for every plan, whatever it is made of."""

import itertools
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hfx_sgl.workload.config import WorkloadConfig
from hfx_sgl.workload.load import load_workload, make_workload
from hfx_sgl.workload.planned import PlannedRequest
from hfx_sgl.workload.workload import Workload

MAX_PROMPT_TOKENS = 6000
NUM_REQUESTS = 200


def ranges(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high)).map(
        lambda pair: (min(pair), max(pair))
    )


@st.composite
def distributions(draw: st.DrawFn, low: int, high: int) -> dict[str, object]:
    least, most = draw(ranges(low, high))
    kind = draw(st.sampled_from(["fixed", "uniform", "lognormal", "quantiles"]))
    if kind == "fixed":
        return {"kind": kind, "value": least}
    if kind == "uniform":
        return {"kind": kind, "min": least, "max": most}
    middle = (least + most) / 2
    if kind == "quantiles" or most - least < 2:
        return {"kind": "quantiles", "points": [[0, least], [0.7, middle], [1, most]]}
    p90 = (middle + most) / 2
    return {"kind": kind, "median": middle, "p90": p90, "min": least, "max": most}


@st.composite
def arrivals(draw: st.DrawFn) -> dict[str, object]:
    process = draw(st.sampled_from(["poisson", "gamma", "uniform"]))
    shape: dict[str, object] = {"process": process}
    if process == "gamma":
        shape["cv"] = draw(st.floats(0.2, 5))
    if draw(st.booleans()):
        amplitude = draw(st.floats(0.01, 1))
        shape["diurnal"] = {"period_s": draw(st.floats(5, 500)), "amplitude_ratio": amplitude}
    if draw(st.booleans()):
        shape["flash_crowd"] = {
            "start_s": draw(st.floats(0, 50)),
            "duration_s": draw(st.floats(1, 50)),
            "factor": draw(st.floats(0, 8)),
        }
    return shape


@st.composite
def classes(draw: st.DrawFn) -> dict[str, object]:
    config: dict[str, object] = {
        "class": draw(st.sampled_from(["chat", "code", "agent"])),
        "rate_per_s": draw(st.floats(0.5, 20)),
        "arrivals": draw(arrivals()),
        "system_prompt_tokens": draw(st.integers(0, 500)),
        "prompt_tokens": draw(distributions(1, 2000)),
        "output_tokens": draw(distributions(1, 500)),
        "max_tokens": {"bound_tokens": draw(st.integers(1, 600))},
    }
    kind = draw(st.sampled_from(["single", "documents", "sessions"]))
    if kind == "documents":
        config["documents"] = {
            "count": draw(st.integers(1, 20)),
            "skew": draw(st.floats(0, 2)),
            "tokens": draw(distributions(1, 3000)),
        }
    elif kind == "sessions":
        config["sessions"] = {
            "turns": draw(distributions(1, 8)),
            "opening_tokens": draw(distributions(1, 1000)),
            "turn_gap_s": draw(distributions(0, 20)),
        }
    return config


def build(*sources: dict[str, object]) -> Workload:
    config = {"max_prompt_tokens": MAX_PROMPT_TOKENS, "sources": sources}
    return make_workload(WorkloadConfig.model_validate(config), name="w", folder=Path())


def plan(workload: Workload, seed: int = 0, load_factor: float = 1.0) -> list[PlannedRequest]:
    return list(workload.plan(seed=seed, load_factor=load_factor, num_requests=NUM_REQUESTS))


many_classes = st.lists(classes(), min_size=1, max_size=3).map(lambda items: build(*items))


@given(many_classes, st.integers(0, 2**32), st.floats(0.2, 20))
@settings(max_examples=20, deadline=None)
def test_requests_come_in_order_with_unique_ids_and_lengths_within_bounds(
    workload: Workload, seed: int, load_factor: float
) -> None:
    requests = plan(workload, seed, load_factor)
    assert len(requests) == NUM_REQUESTS
    instants = [request.at_s for request in requests]
    assert instants == sorted(instants)
    assert instants[0] >= 0
    assert len({request.request_id for request in requests}) == NUM_REQUESTS
    for request in requests:
        assert 1 <= request.prompt.num_tokens <= MAX_PROMPT_TOKENS
        assert 1 <= request.num_output_tokens <= 500
        assert request.max_output_tokens >= request.num_output_tokens


@given(many_classes, st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_a_seed_decides_everything(workload: Workload, seed: int) -> None:
    requests = plan(workload, seed)
    assert requests == plan(workload, seed)
    other_ids = {r.prompt.segment_ids for r in plan(workload, seed + 1)}
    assert not other_ids & {request.prompt.segment_ids for request in requests}


@given(many_classes)
@settings(max_examples=20, deadline=None)
def test_equal_segments_have_equal_lengths_and_own_text_is_not_shared(workload: Workload) -> None:
    lengths: dict[int, int] = {}
    last_segments = set()
    requests = plan(workload)
    for request in requests:
        prompt = request.prompt
        for segment, num_tokens in zip(prompt.segment_ids, prompt.segment_tokens, strict=True):
            assert lengths.setdefault(segment, num_tokens) == num_tokens
        last_segments.add(prompt.segment_ids[-1])
    assert len(last_segments) == len(requests)


@given(classes(), classes(), classes())
@settings(max_examples=15, deadline=None)
def test_changing_one_class_leaves_the_others_alone(
    kept: dict[str, object], before: dict[str, object], after: dict[str, object]
) -> None:
    def requests_of_kept(changed: dict[str, object]) -> list[PlannedRequest]:
        both = build({**kept, "class": "kept"}, {**changed, "class": "changed"})
        mine = (r for r in both.plan(seed=5, num_requests=1000) if r.class_name == "kept")
        return list(itertools.islice(mine, 50))

    first, second = requests_of_kept(before), requests_of_kept(after)
    common = min(len(first), len(second))
    assert first[:common] == second[:common]


@given(classes().filter(lambda item: "sessions" not in item), st.floats(1.1, 10))
@settings(max_examples=20, deadline=None)
def test_a_load_factor_moves_requests_and_changes_nothing_else(
    config: dict[str, object], load_factor: float
) -> None:
    steady = build({**config, "arrivals": {"process": "poisson"}})
    calm, busy = plan(steady), plan(steady, load_factor=load_factor)
    for slow, fast in zip(calm, busy, strict=True):
        assert fast.at_s * load_factor == slow.at_s or (
            abs(fast.at_s * load_factor - slow.at_s) < 1e-9 * slow.at_s
        )
        assert fast.prompt == slow.prompt
        assert fast.num_output_tokens == slow.num_output_tokens


@given(st.sampled_from(["mixed", "bursty", "day"]), st.floats(0.5, 8))
@settings(max_examples=6, deadline=None)
def test_a_load_factor_multiplies_the_rate(name: str, load_factor: float) -> None:
    duration_s = 3600 / load_factor if name != "day" else 3600.0
    workload = load_workload(name)
    requests = workload.plan(seed=1, load_factor=load_factor, duration_s=duration_s)
    num_requests = sum(1 for _ in requests)
    expected = workload.rate_per_s * load_factor * duration_s
    # The crowd of `bursty` adds 2 * 60 s of 2 requests/s; its bursts are noisy.
    extra = 240 * load_factor if name == "bursty" and duration_s >= 180 else 0
    assert abs(num_requests - expected - extra) < 0.1 * (expected + extra)


@given(st.integers(0, 2**32))
@settings(max_examples=8, deadline=None)
def test_sessions_are_in_flight_at_the_start(seed: int) -> None:
    requests = [r for r in load_workload("mixed").plan(seed=seed, duration_s=120)
                if r.class_name == "agent"]  # fmt: skip
    later_turns = sum(not r.request_id.endswith(".0") for r in requests)
    assert later_turns > len(requests) / 2
