"""These tests run on uvloop, as the command does: how sockets close differs between event loops."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest_asyncio
import uvloop
from support.planned_server import PlannedServer


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def server() -> AsyncIterator[PlannedServer]:
    planned = PlannedServer({})
    await planned.start()
    yield planned
    await planned.stop()
