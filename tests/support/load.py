"""Small load tests against a planned server."""

from collections.abc import Iterable
from typing import Any

from hfx_sgl.clock import WallClock
from hfx_sgl.loadtest.session import Harvest, Listeners, run_load_test
from hfx_sgl.loadtest.settings import Endpoint, LoadSettings, Target
from hfx_sgl.prompt import Prompt
from hfx_sgl.results.run import WorkerSample
from hfx_sgl.slo import Slo
from hfx_sgl.workload.planned import PlannedRequest


def planned(
    number: int, *, at_s: float = 0.0, kind: str = "whole", **changes: Any
) -> PlannedRequest:
    values: dict[str, Any] = {
        "request_id": f"r{number}",
        "class_name": kind,
        "at_s": at_s,
        "prompt": Prompt((number,), (20,)),
        "num_output_tokens": 4,
        "max_output_tokens": 8,
        "slo": Slo(ttft_s=1.0),
    }
    return PlannedRequest(**(values | changes))


async def load(
    url: str,
    requests: Iterable[PlannedRequest],
    *,
    samples: list[WorkerSample] | None = None,
    num_warmup_requests: int = 0,
    **changes: Any,
) -> Harvest:
    target = Target(base_url=url, endpoint=Endpoint.CHAT, model="m")
    values: dict[str, Any] = {"request_timeout_s": 10.0, "drain_timeout_s": 10.0, "lead_s": 0.1}
    return await run_load_test(
        LoadSettings(target=target, **(values | changes)),
        requests,
        clock=WallClock(),
        listeners=Listeners(
            on_record=lambda position, record: None,
            on_sample=lambda sample: None if samples is None else samples.append(sample),
            say=lambda line: None,
        ),
        num_warmup_requests=num_warmup_requests,
        sample_interval_s=None if samples is None else 0.02,
    )
