from collections.abc import AsyncIterator

import pytest
from support.emulators import running_pair, running_worker

from hfx_sgl.emulator.worker import Worker


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    """A regular worker with steps of 2 ms."""
    async with running_worker() as worker:
        yield worker


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Worker, Worker]]:
    """A prefill and a decode worker with steps of 2 ms."""
    async with running_pair() as pair:
        yield pair
