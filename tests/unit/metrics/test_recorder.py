import pytest
from hfx_router.metrics.recorder import Recorder

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
