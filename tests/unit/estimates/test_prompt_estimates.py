import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from hfx_router.estimates.prompts import PromptEstimate, PromptEstimates
from hfx_router.estimates.token_thread import OnCounted, TokenThread
from hfx_router.estimates.tokenizer import PromptText, TokenCount

from hfx_sgl.policy.estimates.prompt_tokens import PromptTokens

TEXT = PromptText(prompt_json=b'"' + b"x" * 398 + b'"')
IDS = PromptText(prompt_json=b"[1, 2, 3]")
WAIT_S = 0.004


class FakeThread:
    """Counts when told to."""

    def __init__(self) -> None:
        self.asked: list[OnCounted] = []
        self.is_full = False

    def count(self, prompt: PromptText, on_counted: OnCounted) -> bool:
        if not self.is_full:
            self.asked.append(on_counted)
        return not self.is_full


class FakeTimers:
    """Calls when told to."""

    def __init__(self) -> None:
        self.pending: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        entry = (delay_s, callback)
        self.pending.append(entry)
        timers = self

        class Handle:
            def cancel(self) -> None:
                timers.pending.remove(entry)

        return cast("asyncio.TimerHandle", Handle())

    def fire(self) -> None:
        (_, callback), *rest = self.pending
        callback()
        assert self.pending == rest


class Rig:
    """One asker with everything faked."""

    def __init__(self, thread: FakeThread | None) -> None:
        self.thread = thread
        self.timers = FakeTimers()
        self.tokens = PromptTokens()
        self.answers: list[PromptEstimate] = []
        self.estimates = PromptEstimates(
            self.tokens, cast("TokenThread | None", thread), self.timers, wait_s=WAIT_S
        )

    def ask(self, prompt: PromptText = TEXT) -> Any:
        return self.estimates.ask("m", "chat", prompt, self.answers.append)

    def count(self, count: TokenCount | None) -> None:
        assert self.thread is not None
        self.thread.asked.pop(0)(count)


@pytest.fixture
def rig() -> Rig:
    return Rig(FakeThread())


def counted(num_tokens: int, **more: Any) -> TokenCount:
    return TokenCount(num_tokens=num_tokens, token_ids=tuple(range(num_tokens)), **more)


def test_without_a_tokenizer_the_ratio_answers_at_once() -> None:
    rig = Rig(None)
    assert rig.ask() is None
    (answer,) = rig.answers
    assert (answer.num_tokens, answer.is_counted, answer.token_ids) == (100, False, None)
    for _ in range(100):
        rig.estimates.observe("m", "chat", answer, 200)
    rig.ask()
    assert rig.answers[-1].num_tokens == pytest.approx(200, rel=0.03)


def test_token_ids_need_no_tokenizer(rig: Rig) -> None:
    assert rig.ask(IDS) is None
    assert rig.answers[0].num_tokens == 3
    assert rig.thread is not None
    assert not rig.thread.asked


def test_a_count_in_time_is_the_answer(rig: Rig) -> None:
    assert rig.ask() is not None
    assert not rig.answers
    assert [delay_s for delay_s, _ in rig.timers.pending] == [WAIT_S]
    rig.count(counted(50))
    (answer,) = rig.answers
    assert (answer.num_tokens, answer.is_counted) == (50, True)
    assert answer.token_ids == tuple(range(50))
    assert not rig.timers.pending


def test_a_late_count_teaches_and_answers_nobody(rig: Rig) -> None:
    rig.ask()
    rig.timers.fire()
    (answer,) = rig.answers
    assert (answer.num_tokens, answer.is_counted) == (100, False)
    before = rig.tokens.bytes_per_token("m", "chat")
    rig.count(counted(50))
    assert len(rig.answers) == 1
    assert rig.tokens.bytes_per_token("m", "chat") > before


def test_a_withdrawn_question_is_not_answered(rig: Rig) -> None:
    question = rig.ask()
    question.withdraw()
    assert not rig.timers.pending
    rig.count(counted(50))
    assert not rig.answers
    assert rig.tokens.bytes_per_token("m", "chat") > 4.0


def test_a_full_queue_leaves_it_to_the_ratio(rig: Rig) -> None:
    assert rig.thread is not None
    rig.thread.is_full = True
    assert rig.ask() is None
    assert rig.answers[0].num_tokens == 100


def test_a_prompt_that_cannot_be_counted_is_guessed(rig: Rig) -> None:
    rig.ask()
    rig.count(None)
    assert [answer.num_tokens for answer in rig.answers] == [100]
    assert not rig.timers.pending


def test_without_a_template_what_wraps_messages_is_learned(rig: Rig) -> None:
    bare = TokenCount(num_tokens=40, token_ids=None, num_bare_messages=2)
    for _ in range(200):
        rig.ask()
        rig.count(bare)
        rig.estimates.observe("m", "chat", rig.answers[-1], 40 + 2 * 12)
    assert rig.answers[0].num_tokens == 40 + 2 * 5
    assert rig.answers[-1].num_tokens == 40 + 2 * 12


def test_media_are_added_to_what_was_counted(rig: Rig) -> None:
    chat = PromptText(
        prompt_json=b'[{"role":"user","content":[{"type":"image_url",'
        b'"image_url":{"url":"https://example.org/cat.png"}}]}]'
    )
    rig.ask(chat)
    rig.count(counted(20))
    (answer,) = rig.answers
    assert answer.num_tokens == 20 + 1000
    assert answer.token_ids is None
