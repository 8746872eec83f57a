"""The driver on a clock that the tests move; its timers never fire."""

import pytest
from support.emulators import FlatStepTimes, make_settings

from hfx_sgl.clock import FakeClock
from hfx_sgl.emulator.clock import EngineClock
from hfx_sgl.emulator.driver import EngineDriver
from hfx_sgl.engine.engine import Engine
from hfx_sgl.engine.events import Finished, FinishReason
from hfx_sgl.engine.refusal import EngineRefusal
from hfx_sgl.engine.request import EngineRequest
from hfx_sgl.prompt import Prompt
from hfx_sgl.types import Role


class Diary:
    """A listener that writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def on_tokens(self, num_output_tokens: int) -> None:
        if num_output_tokens not in self.heard:
            self.heard.append(num_output_tokens)

    def on_kv_allocated(self) -> None:
        self.heard.append("allocated")

    def on_kv_sent(self) -> None:
        self.heard.append("sent")

    def on_finished(self, finished: Finished) -> None:
        self.heard.append(finished.reason)


class Stage:
    """A driver, its clock, and one request in it."""

    def __init__(self, role: Role = Role.REGULAR, num_output_tokens: int = 5) -> None:
        self.clock = FakeClock(1000.0)
        self.held = EngineClock(self.clock)
        spec = make_settings(role).spec
        engine = Engine(spec, FlatStepTimes(1.0), now_s=1000.0, is_started=True)
        self.driver = EngineDriver(engine, self.held)
        self.diary = Diary()
        self.driver.submit(make_request("a", num_output_tokens), self.diary)

    def pass_s(self, duration_s: float) -> list[object]:
        """Let time pass and return what was heard by then."""
        self.clock.advance(duration_s)
        self.driver.load()
        return self.diary.heard


def make_request(request_id: str, num_output_tokens: int) -> EngineRequest:
    return EngineRequest(
        request_id=request_id,
        prompt=Prompt((1,), (8,)),
        num_output_tokens=num_output_tokens,
        max_new_tokens=num_output_tokens,
    )


async def test_tokens_come_when_the_model_says() -> None:
    stage = Stage()
    assert stage.pass_s(0.9) == []
    assert stage.pass_s(0.2) == [1]
    assert stage.pass_s(1.0) == [1, 2]
    assert stage.pass_s(3.0) == [1, 2, 3, 4, FinishReason.LENGTH]
    assert stage.driver.is_idle
    stage.driver.close()


async def test_a_late_wake_up_slows_nothing_and_each_step_is_told() -> None:
    stage = Stage(num_output_tokens=10)
    assert stage.pass_s(7.5) == [1, 2, 3, 4, 5, 6, 7]
    assert stage.pass_s(1.0) == [1, 2, 3, 4, 5, 6, 7, 8]
    stage.driver.close()


async def test_held_time_is_not_lived() -> None:
    stage = Stage()
    stage.pass_s(1.5)
    stage.driver.hold()
    assert stage.pass_s(100.0) == [1]
    stage.driver.release()
    assert stage.pass_s(0.4) == [1]
    assert stage.pass_s(0.2) == [1, 2]
    stage.driver.close()


async def test_prefill_waits_for_the_grant() -> None:
    stage = Stage(Role.PREFILL)
    assert stage.pass_s(50.0) == []
    stage.driver.kv_granted("a")
    assert stage.pass_s(0.5) == []
    assert stage.pass_s(2.0) == [1, "sent", FinishReason.LENGTH]
    stage.driver.close()


async def test_decode_allocates_and_waits_for_the_kv() -> None:
    stage = Stage(Role.DECODE, num_output_tokens=3)
    assert stage.diary.heard == ["allocated"]
    assert stage.pass_s(50.0) == ["allocated"]
    stage.driver.kv_arrived("a")
    assert stage.pass_s(2.5) == ["allocated", 1, 2, FinishReason.LENGTH]
    stage.driver.close()


async def test_aborts_are_told_once() -> None:
    stage = Stage(num_output_tokens=100)
    stage.pass_s(1.5)
    stage.driver.abort("a")
    stage.driver.abort("absent")
    assert stage.pass_s(5.0)[-1] is FinishReason.ABORTED
    assert stage.diary.heard.count(FinishReason.ABORTED) == 1
    assert stage.driver.is_idle
    stage.driver.close()


async def test_a_refused_request_leaves_nothing() -> None:
    stage = Stage()
    with pytest.raises(EngineRefusal):
        stage.driver.submit(make_request("a", 1), Diary())
    assert stage.driver.request_ids == ("a",)
    stage.driver.close()
