from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hfx_router.metrics.exporter import ExportLabels, RouterCollector
from hfx_router.metrics.recorder import Recorder
from hfx_router.metrics.scheduling_families import NO_SCHEDULER, SchedulingView
from hfx_router.workers.worker import Worker, WorkerSpec
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from support.scheduling import plain_models

from hfx_sgl.policy.breaker import Breaker, BreakerConfig
from hfx_sgl.policy.health import HealthConfig, HealthTracker
from hfx_sgl.policy.scheduler.decision import Reason
from hfx_sgl.types import Role


def worker(url: str = "http://10.0.0.1:30000", role: Role = Role.REGULAR, **spec: object) -> Worker:
    """A probed, healthy worker whose breaker opens with the first failure and closes after one."""
    breaker = Breaker(BreakerConfig(failure_threshold=1, success_threshold=1, timeout_s=1.0))
    health = HealthTracker(HealthConfig(), is_healthy=True)
    fields: dict[str, object] = {"url": url, "role": role, "model_id": "tiny", **spec}
    made = Worker(f"id-{url}", WorkerSpec(**fields), breaker, health)  # type: ignore[arg-type]
    made.is_probed = True
    return made


@dataclass
class Bench:
    """A collector with its inputs in reach."""

    recorder: Recorder = field(default_factory=Recorder)
    workers: tuple[Worker, ...] = ()
    scheduling: SchedulingView = NO_SCHEDULER
    labels: ExportLabels = field(
        default_factory=lambda: ExportLabels(
            backend_type="regular",
            policies={
                Role.REGULAR: "round_robin",
                Role.PREFILL: "cache_aware",
                Role.DECODE: "power_of_two",
            },
            version="1.2.3",
        )
    )

    def __post_init__(self) -> None:
        self.collector = RouterCollector(self.recorder, self, self.labels, self.scheduling)
        self.registry = CollectorRegistry()
        self.registry.register(self.collector)

    def value(self, name: str, **labels: str) -> float | None:
        """The value of one sample; None when the scrape has no such sample."""
        return self.registry.get_sample_value(name, labels)

    def families(self) -> dict[str, Metric]:
        """Families by the name that their page entry has."""
        return {
            f"{family.name}_total" if family.type == "counter" else family.name: family
            for family in self.collector.collect()
        }

    def label_sets(self, name: str) -> set[tuple[tuple[str, str], ...]]:
        """The label values of one family, without `le`."""
        return {
            tuple(sorted((key, text) for key, text in sample.labels.items() if key != "le"))
            for sample in self.families()[name].samples
        }


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def make_worker() -> Callable[..., Worker]:
    return worker


@pytest.fixture
def full_bench() -> Bench:
    """Every family has at least one sample."""
    models = plain_models()
    models.decode.observe(4, 4000, 0.05)
    view = SchedulingView(waiting=lambda: [("chat", True)], models=lambda: {"all": models})
    bench = Bench(scheduling=view)
    prefill = worker("http://10.0.0.1:30000", Role.PREFILL)
    prefill.breaker.record_failure(0.0)
    decode = worker("http://10.0.0.2:30000", Role.DECODE)
    bench.workers = (prefill, decode)
    recorder = bench.recorder
    recorder.answered("/v1/chat/completions", True, 200, "", 0.2)
    recorder.answered("/generate", False, 503, "no_workers", 0.2)
    recorder.controlled("GET", "/health", 200, "", 0.001)
    recorder.streamed("/v1/chat/completions", 0.1, 0.02, 6)
    recorder.judged("chat", True)
    recorder.upstream_answers[Role.DECODE, 200] += 1
    recorder.retries["/generate", Role.DECODE] += 1
    recorder.retries_exhausted["/generate", Role.DECODE] += 1
    recorder.backed_off(2, 0.05)
    recorder.worker_errors[Role.DECODE, "connect"] += 1
    recorder.health_checks[Role.PREFILL, "success"] += 1
    recorder.admissions["allowed"] += 1
    recorder.aborts[Role.PREFILL, "sent"] += 1
    recorder.scheduling.decisions[Reason.ON_TIME] += 1
    recorder.scheduling.sent("chat", 0.04, 0.5)
    return bench
