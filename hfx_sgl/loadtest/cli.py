"""The command `hfx-loadtest`: a workload in, a run folder and a table out."""

import argparse
import asyncio
import math
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import uvloop

from hfx_sgl.clock import WallClock
from hfx_sgl.errors import ConfigError, LoadTestError
from hfx_sgl.loadtest.arguments import make_parser, settings_from_args, target_from_args
from hfx_sgl.loadtest.server import ServerQuestions
from hfx_sgl.loadtest.session import Harvest, Listeners, run_load_test
from hfx_sgl.loadtest.settings import Endpoint, LoadSettings, Target
from hfx_sgl.results.run import RunInfo
from hfx_sgl.results.summarise import summarise
from hfx_sgl.results.table import format_summary
from hfx_sgl.results.version import package_version
from hfx_sgl.results.writer import RunWriter
from hfx_sgl.workload.arguments import PlannedLoad, add_workload_arguments, workload_from_args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status; see `--help`."""
    parser = make_parser()
    add_workload_arguments(parser)
    try:
        return _run(parser.parse_args(argv))
    except ConfigError as exc:
        for problem in exc.problems:
            print(problem, file=sys.stderr)
        return 2
    except LoadTestError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the output folder holds no finished run", file=sys.stderr)
        return 1


def _run(args: argparse.Namespace) -> int:
    target = target_from_args(args)
    settings = settings_from_args(args, target)
    load = workload_from_args(args)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, ExitStack() as stack:
        if not target.model and target.endpoint is not Endpoint.GENERATE:
            target = replace(target, model=runner.run(_first_model(target)))
            settings = replace(settings, target=target)
        writer = None
        if args.output is not None:
            writer = stack.enter_context(RunWriter(args.output))
        harvest = runner.run(
            run_load_test(
                settings,
                load.requests,
                clock=WallClock(),
                listeners=Listeners(
                    on_record=_ignore if writer is None else writer.add_record,
                    on_sample=_ignore if writer is None else writer.add_worker_sample,
                    say=_ignore if args.quiet else _say,
                ),
                num_warmup_requests=args.warmup_requests,
                sample_interval_s=args.sample_interval_s or None,
            )
        )
        return _conclude(args, settings, load, harvest, writer)


async def _first_model(target: Target) -> str:
    async with ServerQuestions(target.base_url, target.headers) as server:
        return await server.first_model()


def _conclude(
    args: argparse.Namespace,
    settings: LoadSettings,
    load: PlannedLoad,
    harvest: Harvest,
    writer: RunWriter | None,
) -> int:
    """Write and print the result; return the exit status."""
    summary = summarise(harvest.records.values(), itls_s=harvest.itls_s)
    verdict = harvest.verdict
    if writer is not None:
        writer.finish(_info(args, settings, load, harvest), summary)
    print(format_summary(summary))
    for problem in verdict.problems:
        print(f"{'note' if verdict.is_valid else 'INVALID'}: {problem}")
    if verdict.p99_send_error_ms is not None:
        print(f"p99 of the error in sending time: {verdict.p99_send_error_ms:.1f} ms")
    for reason, count in harvest.most_frequent_errors():
        print(f"{count} x {reason}")
    if writer is not None:
        print(f"written to {writer.path}")
    return 0 if verdict.is_valid else 1


def _info(
    args: argparse.Namespace, settings: LoadSettings, load: PlannedLoad, harvest: Harvest
) -> RunInfo:
    duration_s = harvest.last_at_s if math.isinf(load.duration_s) else load.duration_s
    return RunInfo(
        tool="loadtest",
        policy=args.policy,
        cluster=args.cluster,
        profile=args.profile,
        workload=load.workload.name,
        load_factor=load.load_factor,
        seed=load.seed,
        duration_s=duration_s,
        version=package_version(),
        is_valid=harvest.verdict.is_valid,
        problems=harvest.verdict.problems,
        settings={
            "base_url": settings.target.base_url,
            "endpoint": settings.target.endpoint.value,
            "model": settings.target.model,
            "slo_set": args.slo_set,
            "num_requests": load.num_requests,
            "output_lengths": settings.output_lengths.value,
            "slo_hints": settings.slo_hints.value,
            "count_tokens": settings.token_count.value,
            "max_concurrency": settings.max_concurrency,
            "request_timeout_s": settings.request_timeout_s,
            "drain_timeout_s": settings.drain_timeout_s,
            "max_send_error_ms": args.max_send_error_ms,
            "p99_send_error_ms": harvest.verdict.p99_send_error_ms,
            "warmup_requests": args.warmup_requests,
        },
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _ignore(*_: object) -> None:
    """Take what nobody asked for."""
