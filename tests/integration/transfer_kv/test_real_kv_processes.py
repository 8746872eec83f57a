"""Emulated workers as processes that hand real bytes over, behind the real router and alone."""

import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest
from support.emulator_processes import Processes, Reply, Spawned, processes
from support.loopback import in_loopback

NUM_PROMPT_TOKENS = 1900
TOKEN_BYTES = 65536
CONTEXT_TOKENS = 2048
KV_BYTES = NUM_PROMPT_TOKENS * TOKEN_BYTES
"""Of one prompt; the pool has no room for two."""
BODY = {
    "text": "word" * NUM_PROMPT_TOKENS,
    "rid": "first",
    "sampling_params": {"max_new_tokens": 4, "ignore_eos": True},
}
WAIT_S = 30.0


def flags(backend: str, role: str) -> tuple[str, ...]:
    return (
        *(f"--{role}", "1", "--context-length", str(CONTEXT_TOKENS), "--page-size", "16"),
        *("--kv", "real", "--kv-backend", backend, "--kv-bytes-per-token", str(TOKEN_BYTES)),
        *("--kv-pool-bytes", str(CONTEXT_TOKENS * TOKEN_BYTES)),
    )


def behind_the_router(backend: str) -> None:
    with processes() as running:
        prefill = running.emulator(*flags(backend, "prefill"))
        decode = running.emulator(*flags(backend, "decode"))
        alone = running.emulator("--workers", "1")
        router = running.router(prefill, decode)
        rss_bytes = decode.rss_bytes()
        bodies = [
            {**BODY, "rid": str(number), "text": f"{number:4}" * (100 + 400 * number)}
            for number in range(4)
        ]
        answers = [running.post(router, "/generate", body) for body in bodies]
        expected = [running.post(alone, "/generate", body) for body in bodies]
        for answer, other in zip(answers, expected, strict=True):
            status, value = answer.result(WAIT_S)
            assert status == 200, value
            assert value["output_ids"] == other.result(WAIT_S)[1]["output_ids"]
        # Shared memory is there from the start.
        if backend != "shm":
            assert decode.rss_bytes() - rss_bytes > 0.5 * 1300 * TOKEN_BYTES
        _, info = running.post(decode, "/server_info", None).result(WAIT_S)
        assert info["emulated_kv"]["backend"] == backend
        assert info["emulated_kv"]["bytes_per_token"] == TOKEN_BYTES


def stopped_midway(
    running: Processes, backend: str
) -> tuple[Spawned, Spawned, list[Future[Reply]]]:
    """Return a prefill worker that was stopped while its bytes were on the way, and its decode."""
    for _ in range(5):
        prefill = running.emulator(*flags(backend, "prefill"))
        decode = running.emulator(*flags(backend, "decode"))
        rss_bytes = decode.rss_bytes()
        legs = running.legs(prefill, decode, BODY)
        eventually(lambda decode=decode, was=rss_bytes: decode.rss_bytes() - was > KV_BYTES / 16)  # type: ignore[misc]
        prefill.stop()
        time.sleep(0.1)
        if not legs[1].done() and decode.rss_bytes() - rss_bytes < 0.9 * KV_BYTES:
            return prefill, decode, legs
        prefill.kill()
        decode.kill()
    raise AssertionError("every transfer was over before its sender could be stopped")


def eventually(is_met: Callable[[], bool]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not is_met():
        assert time.monotonic() < end_s
        time.sleep(0.0005)


def killed_midway(backend: str) -> None:
    """The decode answers as a real one does, and has its memory back soon after."""
    with processes() as running:
        other = running.emulator(*flags(backend, "prefill"))
        doomed, decode, legs = stopped_midway(running, backend)
        doomed.kill()
        status, value = legs[1].result(WAIT_S)
        assert status == 500
        assert value["message"].startswith("Decode transfer failed for request 'first'")
        assert legs[0].result(WAIT_S)[0] == 0
        again = running.legs(other, decode, {**BODY, "rid": "second"})
        assert [each.result(WAIT_S)[0] for each in again] == [200, 200]


def stopped_and_aborted(backend: str) -> None:
    """No page is used again while a stopped worker could still write to it."""
    with processes() as running:
        other = running.emulator(*flags(backend, "prefill"))
        doomed, decode, legs = stopped_midway(running, backend)
        running.post(decode, "/abort_request", {"rid": "first"}).result(WAIT_S)
        assert legs[1].result(WAIT_S)[0] == 500
        again = running.legs(other, decode, {**BODY, "rid": "second"})
        time.sleep(1.5)
        assert not any(each.done() for each in again)
        doomed.kill()
        assert [each.result(WAIT_S)[0] for each in again] == [200, 200]


@pytest.mark.parametrize("backend", ["socket", "shm"])
def test_real_bytes_behind_the_router(backend: str) -> None:
    behind_the_router(backend)


@in_loopback
def test_real_bytes_over_mooncake_behind_the_router() -> None:
    behind_the_router("mooncake")


@pytest.mark.slow
def test_a_prefill_killed_midway() -> None:
    killed_midway("socket")


@pytest.mark.slow
@in_loopback
def test_a_prefill_killed_midway_over_mooncake() -> None:
    killed_midway("mooncake")


@pytest.mark.slow
@in_loopback
def test_a_stopped_prefill_over_mooncake() -> None:
    stopped_and_aborted("mooncake")


def test_a_pool_that_is_too_small_is_said_at_the_start() -> None:
    with processes() as running, pytest.raises(AssertionError, match="kv_pool_bytes: must hold"):
        running.emulator(*("--prefill", "1", "--kv", "real", "--kv-pool-bytes", "100000"))
