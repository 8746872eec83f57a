import pytest
from hfx_router.metrics.recorder import TPOT_BOUNDS_S, TTFT_BOUNDS_S, Recorder, with_bounds

from hfx_sgl.policy.slo.config import MAX_CLASSES
from hfx_sgl.slo import Slo
from hfx_sgl.types import Role


def test_a_stream_adds_up_to_its_generation_time() -> None:
    recorder = Recorder()
    recorder.streamed("/generate", ttft_s=0.5, tpot_s=0.02, num_tokens=11)
    recorder.streamed("/generate", ttft_s=0.25, tpot_s=None, num_tokens=1)
    assert recorder.generation_s["/generate"].total == pytest.approx(0.5 + 10 * 0.02 + 0.25)
    assert recorder.generation_s["/generate"].num_observed == 2
    assert recorder.tpot_s["/generate"].num_observed == 1
    assert recorder.output_tokens["/generate"] == 12


def test_own_answers_are_kept_apart_from_inference() -> None:
    recorder = Recorder((1.0,))
    recorder.controlled("GET", "/health", 200, "", 0.5)
    recorder.controlled("GET", "/health", 200, "", 2.0)
    recorder.controlled("PUT", "/workers/{worker_id}", 404, "not_found", 0.1)
    assert recorder.control_answers["GET", "/health", 200, ""].counts == [1, 1]
    assert len(recorder.control_answers) == 2
    assert recorder.answers == {}


def test_selections_of_leavers_are_kept_by_pool() -> None:
    recorder = Recorder()
    recorder.worker_left(Role.DECODE, "tiny", 5)
    recorder.worker_left(Role.DECODE, "tiny", 2)
    assert recorder.departed_selections == {(Role.DECODE, "tiny"): 7}


def test_promises_are_counted_by_class() -> None:
    recorder = Recorder()
    for name, is_met in (("chat", True), ("chat", True), ("chat", False), ("none", True)):
        recorder.judged(name, is_met)
    assert recorder.promises == {("chat", True): 2, ("chat", False): 1, ("none", True): 1}


def test_clients_cannot_make_up_ever_more_classes() -> None:
    recorder = Recorder()
    recorder.judged("none", True)
    for index in range(MAX_CLASSES + 3):
        recorder.judged(f"c{index}", True)
        recorder.judged("c0", False)
        recorder.judged("none", False)
    classes = {name for name, _ in recorder.promises}
    assert classes == {"none", "other", *(f"c{index}" for index in range(MAX_CLASSES))}
    assert recorder.promises["other", True] == 3
    assert recorder.promises["c0", False] == recorder.promises["none", False] == MAX_CLASSES + 3


def test_configured_bounds_are_bounds_of_histograms() -> None:
    recorder = Recorder(slos=(Slo(ttft_s=0.3, tpot_s=0.05), Slo(tpot_s=0.033), Slo(ttft_s=90)))
    recorder.streamed("/generate", ttft_s=0.3, tpot_s=0.033, num_tokens=2)
    assert set(recorder.ttft_s["/generate"].bounds) == {*TTFT_BOUNDS_S, 0.3, 90}
    assert set(recorder.tpot_s["/generate"].bounds) == {*TPOT_BOUNDS_S, 0.033}
    kept = recorder.ttft_s["/generate"]
    assert kept.counts[kept.bounds.index(0.3)] == 1


def test_bounds_stay_in_order_and_are_listed_once() -> None:
    assert with_bounds((1, 2.5), (2.0, float("inf"), 1.0)) == (1, 2.0, 2.5)
