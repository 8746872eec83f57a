import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hfx_router.estimates.token_thread import TokenThread
from hfx_router.estimates.tokenizer import PromptText, TokenCount

PATIENCE_S = 10.0


class SlowTokenizer:
    """Counts bytes, once it is let."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)

    def count(self, prompt: PromptText) -> TokenCount:
        self.begun.release()
        assert self.gate.acquire(timeout=PATIENCE_S)
        if prompt.prompt_json == b"bad":
            raise KeyError("role")
        return TokenCount(num_tokens=len(prompt.prompt_json), token_ids=None)


class Loop:
    """Takes what other threads hand in."""

    def __init__(self) -> None:
        self.calls: queue.Queue[tuple[Any, ...]] = queue.Queue()

    def call_soon_threadsafe(self, *call: Any) -> None:
        self.calls.put(call)

    def run_one(self) -> None:
        callback, *arguments = self.calls.get(timeout=PATIENCE_S)
        callback(*arguments)


@pytest.fixture
def tokenizer() -> SlowTokenizer:
    return SlowTokenizer()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def thread(tokenizer: SlowTokenizer, loop: Loop) -> Iterator[TokenThread]:
    thread = TokenThread(tokenizer, loop.call_soon_threadsafe, max_queued=2, max_prompt_bytes=100)
    thread.start()
    yield thread
    tokenizer.gate.release(100)
    thread.close()


def prompt(text: bytes) -> PromptText:
    return PromptText(prompt_json=text)


def test_counts_in_turn(thread: TokenThread, tokenizer: SlowTokenizer, loop: Loop) -> None:
    counts: list[TokenCount | None] = []
    assert thread.count(prompt(b"one"), counts.append)
    assert thread.count(prompt(b"four!"), counts.append)
    tokenizer.gate.release(2)
    loop.run_one()
    loop.run_one()
    assert [count and count.num_tokens for count in counts] == [3, 5]


def test_takes_no_more_than_fit(thread: TokenThread, tokenizer: SlowTokenizer, loop: Loop) -> None:
    counts: list[TokenCount | None] = []
    assert thread.count(prompt(b"under way"), counts.append)
    assert tokenizer.begun.acquire(timeout=PATIENCE_S)
    assert thread.count(prompt(b"first"), counts.append)
    assert thread.count(prompt(b"second"), counts.append)
    assert not thread.count(prompt(b"third"), counts.append)
    assert thread.num_refused == 1
    tokenizer.gate.release(3)
    for _ in range(3):
        loop.run_one()
    assert len(counts) == 3
    assert loop.calls.empty()


def test_takes_no_prompt_that_is_too_long(thread: TokenThread, loop: Loop) -> None:
    text = PromptText(prompt_json=b"x" * 60, tools_json=b"y" * 41)
    assert not thread.count(text, lambda count: None)
    assert thread.num_refused == 1


def test_goes_on_after_a_prompt_that_is_none(
    thread: TokenThread, tokenizer: SlowTokenizer, loop: Loop
) -> None:
    counts: list[TokenCount | None] = []
    tokenizer.gate.release(2)
    thread.count(prompt(b"bad"), counts.append)
    loop.run_one()
    thread.count(prompt(b"good"), counts.append)
    loop.run_one()
    assert counts[0] is None
    assert counts[1] is not None
    assert counts[1].num_tokens == 4
    assert thread.num_failed == 1


def test_closing_drops_what_waits(
    thread: TokenThread, tokenizer: SlowTokenizer, loop: Loop
) -> None:
    for text in (b"under way", b"waits", b"waits too"):
        if text != b"under way":
            assert thread.count(prompt(text), lambda count: None)
        else:
            thread.count(prompt(text), lambda count: None)
            assert tokenizer.begun.acquire(timeout=PATIENCE_S)
    closer = threading.Thread(target=thread.close)
    closer.start()
    tokenizer.gate.release(3)
    closer.join(PATIENCE_S)
    assert not closer.is_alive()
    assert loop.calls.qsize() <= 1
