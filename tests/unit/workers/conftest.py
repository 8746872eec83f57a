"""Virtual time for jobs and loops, and the registry they work on."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hfx_router.workers.registry import Registry
from support.virtual_loop import VirtualLoop

from hfx_sgl.clock import FakeClock
from hfx_sgl.policy.breaker import BreakerConfig
from hfx_sgl.policy.health import HealthConfig

RunVirtual = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
def run_virtual() -> RunVirtual:
    """Run a coroutine to its end on virtual time."""

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(main)

    return run


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def forgotten() -> list[str]:
    """The ids that the policies were told to forget."""
    return []


@pytest.fixture
def registry(clock: FakeClock, forgotten: list[str]) -> Registry:
    return Registry(
        clock,
        BreakerConfig(failure_threshold=3, success_threshold=2, timeout_s=10.0, window_s=60.0),
        HealthConfig(failure_threshold=3, success_threshold=2),
        lambda worker: forgotten.append(worker.worker_id),
    )
