"""Runs some workers inside this process until a signal, or until none is left."""

import asyncio
import signal
from collections.abc import Callable, Iterable

from hfx_sgl.clock import WallClock
from hfx_sgl.emulator.settings import WorkerSettings
from hfx_sgl.emulator.worker import Worker
from hfx_sgl.engine.step_times.times import StepTimes
from hfx_sgl.errors import LaunchError, TransferError
from hfx_sgl.launch.progress import Progress


async def host_workers(
    settings: Iterable[WorkerSettings],
    step_times: StepTimes,
    *,
    progress: Progress,
    on_ready: Callable[[], None],
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        on_ready: called when every worker takes requests.

    Raises:
        LaunchError: a port is taken, or a fault has ended every worker.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    living: set[Worker] = set()
    dead: list[str] = []

    def bury(worker: Worker) -> None:
        living.discard(worker)
        dead.append(worker.settings.name)
        progress.note(f"{worker.settings.name} has died of {worker.died_of}")
        if not living:
            stop.set()

    try:
        for one in settings:
            worker = Worker(one, step_times, clock=WallClock(), on_death=bury)
            living.add(worker)
            await _start(worker)
        await _wait_ready(living, progress, stop)
        if not stop.is_set():
            on_ready()
        await stop.wait()
    finally:
        await asyncio.gather(*(worker.stop() for worker in living))
    if dead and not living:
        raise LaunchError("a fault has ended every worker")


async def _start(worker: Worker) -> None:
    try:
        await worker.start()
    except OSError as exc:
        raise LaunchError(f"{worker.settings.name} cannot listen: {exc.strerror or exc}") from exc
    except TransferError as exc:
        raise LaunchError(f"{worker.settings.name} cannot move KV: {exc}") from exc


async def _wait_ready(workers: set[Worker], progress: Progress, stop: asyncio.Event) -> None:
    while not stop.is_set():
        waits = [worker.driver.ready_in_s for worker in workers]
        num_ready = sum(1 for wait_s in waits if wait_s <= 0)
        if num_ready == len(waits):
            return
        progress.show(f"{num_ready} of {len(waits)} workers ready, the last in {max(waits):.0f} s")
        await asyncio.sleep(min(1.0, max(waits)))
