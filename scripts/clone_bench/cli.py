"""The command: which models, how often, and what to print."""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.machine import commit_of, cpu_model
from clone_bench.measure import Start, Way, measure_model
from clone_bench.models import SHAPES, ensure_model

from hfx_sgl.errors import ConfigError, HfxError
from hfx_sgl.launch import netns, prepare


def main(root: Path, argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        if args.rounds < 1:
            raise ConfigError(f"rounds: must be at least 1 ({args.rounds})")
        return _run(root, args)
    except ConfigError as exc:
        print(*exc.problems, sep="\n", file=sys.stderr)
        return 2
    except HfxError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1


def _run(root: Path, args: argparse.Namespace) -> int:
    python = prepare.sglang_venv_python(root)
    if not args.no_install:
        prepare.ensure_sglang_cpu(root)
    models = [ensure_model(root, python, name) for name in args.models]
    if not netns.can_isolate():
        raise ConfigError("netns: needs root, as Mooncake listens on every network interface")
    netns.isolate()
    lines = []
    for model in models:
        size_bytes, starts = measure_model(
            model, python=python, base_port=args.base_port, num_rounds=args.rounds, say=_say
        )
        lines.append(_report(model.name, size_bytes, starts))
        if args.output is not None:
            _write(args.output, root, model.name, size_bytes, starts)
    print("\n\n".join(lines))
    return 0


def _report(name: str, size_bytes: int, starts: Sequence[Start]) -> str:
    num_rounds = sum(start.way is Way.COLD for start in starts)
    head = f"{name}: {size_bytes / 1e6:.0f} MB of weights, {num_rounds} rounds, medians in seconds"
    lines = [head, f"{'weights from':14}{'serves':>9}{'(weights)':>11}{'checks':>9}{'all':>9}"]
    for way in Way:
        of_way = [start for start in starts if start.way is way]
        serves, loads, checks = (
            statistics.median(getattr(start, field) for start in of_way)
            for field in ("serves_s", "loads_s", "checks_s")
        )
        whole = statistics.median(start.serves_s + start.checks_s for start in of_way)
        lines.append(f"{way:14}{serves:9.2f}{loads:11.2f}{checks:9.2f}{whole:9.2f}")
    return "\n".join(lines)


def _write(path: Path, root: Path, name: str, size_bytes: int, starts: Sequence[Start]) -> None:
    commit, is_dirty = commit_of(root)
    record: dict[str, Any] = {
        "model": name,
        "size_bytes": size_bytes,
        "cpu_model": cpu_model(),
        "commit": commit,
        "is_dirty": is_dirty,
        "starts": [asdict(start) for start in starts],
    }
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench_clone",
        description="How long a real SGLang server on this machine's CPU takes to start: with "
        "weights from disk (dropped from memory before, and still in memory), from a running "
        "server, and from one that got them so itself. The ways take turns in each round. "
        "'serves' is from the fork to the first good /health, '(weights)' the part of it that "
        "SGLang spends on weights, 'checks' what choosing a source and comparing all weights "
        "costs on top.",
    )
    parser.add_argument(
        "--models", nargs="+", choices=tuple(SHAPES), default=tuple(SHAPES), help="(all)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--base-port", type=int, default=21000, help="(%(default)s)")
    parser.add_argument("--output", type=Path, help="append a JSON line for each model")
    parser.add_argument(
        "--no-install", action="store_true", help="take the SGLang environment as it is"
    )
    return parser
