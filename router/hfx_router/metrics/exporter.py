"""Turns counters and worker records into Prometheus families when somebody scrapes.

Reads only: a scrape changes nothing that the byte path or the registry owns.
"""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import Metric

from hfx_router.metrics.hfx_families import (
    hfx_process_families,
    hfx_request_families,
    hfx_worker_families,
)
from hfx_router.metrics.labels import ExportLabels
from hfx_router.metrics.paths import OTHER
from hfx_router.metrics.recorder import Recorder
from hfx_router.metrics.scheduling_families import (
    NO_SCHEDULER,
    SchedulingView,
    model_families,
    scheduling_families,
)
from hfx_router.metrics.smg_http import http_families
from hfx_router.metrics.smg_router import router_families
from hfx_router.metrics.smg_worker import worker_families
from hfx_router.metrics.worker_reading import RegistryView, WorkerReading, read_workers

DEFAULT_MODEL = "default"
"""sglang-router's `model` label for requests that name no model."""

UNKNOWN_MODEL = "unknown"
"""The model id of a worker that has not told its own."""

__all__ = ["DEFAULT_MODEL", "ExportLabels", "RegistryView", "RouterCollector"]


class RouterCollector:
    """A prometheus_client collector; register it with a `CollectorRegistry`.

    `collect` is lazy: each family is built in one go when it is asked for, so that a renderer
    may let other work run between two of them.
    """

    def __init__(
        self,
        recorder: Recorder,
        registry: RegistryView,
        labels: ExportLabels,
        scheduling: SchedulingView = NO_SCHEDULER,
    ) -> None:
        self._recorder = recorder
        self._registry = registry
        self._labels = labels
        self._scheduling = scheduling
        self._model = DEFAULT_MODEL

    def describe(self) -> Iterable[Metric]:
        """Return nothing: with fixed families there is no clash to detect at registration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every family, also those that have no samples."""
        readings, num_unreadable = read_workers(self._registry.workers)
        self._model = served_model(readings, self._model)
        yield from http_families(self._recorder)
        yield from router_families(self._recorder, self._labels, self._model)
        yield from worker_families(self._recorder, readings, self._labels)
        yield from hfx_request_families(self._recorder, self._model)
        yield from scheduling_families(self._recorder.scheduling, self._scheduling)
        yield from model_families(self._scheduling)
        yield from hfx_process_families(self._recorder, self._labels)
        yield from hfx_worker_families(self._recorder, readings, num_unreadable)


def served_model(readings: Sequence[WorkerReading], last_model: str) -> str:
    """Return the `model` label of request families.

    The model that all workers serve; `other` when they serve several, since requests are not
    counted by model; `last_model` when none is known, so that a counter does not change its
    name because a pool has just lost its workers.
    """
    models = {one.model for one in readings if one.model != UNKNOWN_MODEL}
    if not models:
        return last_model
    return models.pop() if len(models) == 1 else OTHER
