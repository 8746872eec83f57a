"""A whole load test: warm-up, the load itself, worker samples beside it, and what it adds up to."""

import asyncio
import gc
import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from hfx_sgl.clock import Clock
from hfx_sgl.errors import LoadTestError
from hfx_sgl.loadtest.open_loop import OpenLoop
from hfx_sgl.loadtest.server import ServerQuestions
from hfx_sgl.loadtest.settings import LoadSettings, SloHints
from hfx_sgl.loadtest.verdict import Verdict, judge
from hfx_sgl.prompt import Prompt
from hfx_sgl.results.record import RequestRecord, Status
from hfx_sgl.results.run import WorkerSample
from hfx_sgl.workload.planned import PlannedRequest

_WARMUP_PROMPT_TOKENS = 64
_WARMUP_OUTPUT_TOKENS = 4
_WARMUP_GAP_S = 0.02
_PROGRESS_S = 5.0
_GC_THRESHOLDS = (100_000, 50, 1000)
"""Almost nothing that the client makes is part of a cycle, and a full collection would stop it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Harvest:
    """What a load test brought in."""

    records: "dict[int, RequestRecord]"
    """By place in the order of arrival."""
    itls_s: "dict[str, array[float]]"
    """Times between tokens per class, of completed requests."""
    last_at_s: float
    """When the last request was due."""
    verdict: Verdict

    def most_frequent_errors(self, num: int = 5) -> list[tuple[str, int]]:
        """Return the reasons for misses that came most often, with how often."""
        reasons = (record.error for record in self.records.values())
        return Counter(reason for reason in reasons if reason is not None).most_common(num)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Who hears of what while it happens."""

    on_record: Callable[[int, RequestRecord], None]
    on_sample: Callable[[WorkerSample], None]
    say: Callable[[str], None]
    """Takes a line about how it goes."""


async def run_load_test(
    settings: LoadSettings,
    requests: Iterable[PlannedRequest],
    *,
    clock: Clock,
    listeners: Listeners,
    num_warmup_requests: int = 1,
    sample_interval_s: float | None = 1.0,
) -> Harvest:
    """Send `requests` at their times and return when all have ended.

    Args:
        sample_interval_s: time between questions for the workers' loads; None asks none.

    Raises:
        LoadTestError: a request of the warm-up failed.
    """
    await _warm_up(settings, clock, num_warmup_requests)
    records: dict[int, RequestRecord] = {}

    def on_record(position: int, record: RequestRecord) -> None:
        records[position] = record
        listeners.on_record(position, record)

    loop = OpenLoop(settings, clock, on_record)
    beside = [asyncio.create_task(_report_progress(loop, clock, listeners.say))]
    if sample_interval_s is not None:
        beside.append(
            asyncio.create_task(_sample(loop, settings, clock, listeners, sample_interval_s))
        )
    try:
        with _rare_collections():
            await loop.run(requests)
    finally:
        for task in beside:
            task.cancel()
        for task in beside:
            with suppress(asyncio.CancelledError):
                await task
    return Harvest(
        records=records,
        itls_s=loop.itls_s,
        last_at_s=loop.last_at_s,
        verdict=judge(loop, settings),
    )


async def _warm_up(settings: LoadSettings, clock: Clock, num_requests: int) -> None:
    records: list[RequestRecord] = []
    loop = OpenLoop(
        replace(settings, drain_timeout_s=settings.request_timeout_s, slo_hints=SloHints.NONE),
        clock,
        lambda position, record: records.append(record),
    )
    await loop.run(itertools.islice(_warmup_requests(), num_requests))
    for record in records:
        if record.status is not Status.OK:
            raise LoadTestError(f"{settings.target.base_url}: warm-up: {record.error}")


def _warmup_requests() -> Iterator[PlannedRequest]:
    for number in itertools.count():
        yield PlannedRequest(
            request_id=f"warmup-{number}",
            class_name="warmup",
            at_s=number * _WARMUP_GAP_S,
            prompt=Prompt((-1 - number,), (_WARMUP_PROMPT_TOKENS,)),
            num_output_tokens=_WARMUP_OUTPUT_TOKENS,
            max_output_tokens=_WARMUP_OUTPUT_TOKENS,
        )


@contextmanager
def _rare_collections() -> Iterator[None]:
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def _report_progress(loop: OpenLoop, clock: Clock, say: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_S)
        num_ok = loop.num_by_status[Status.OK]
        num_missed = sum(loop.num_by_status.values()) - num_ok
        say(
            f"{clock.now_s() - loop.start_s:6.0f} s: {loop.num_sent} sent, {loop.num_running} "
            f"running, {num_ok} completed, {num_missed} not"
        )


async def _sample(
    loop: OpenLoop, settings: LoadSettings, clock: Clock, listeners: Listeners, interval_s: float
) -> None:
    """Ask for the workers' loads at intervals, until the server does not say at the first time."""
    target = settings.target
    async with ServerQuestions(target.base_url, target.headers) as server:
        await asyncio.sleep(settings.lead_s)
        has_answered = False
        while True:
            asked_at_s = clock.now_s()
            samples = await server.worker_samples(max(0.0, asked_at_s - loop.start_s))
            if samples is None and not has_answered:
                return
            has_answered = True
            for sample in samples or ():
                listeners.on_sample(sample)
            await asyncio.sleep(max(0.0, asked_at_s + interval_s - clock.now_s()))
