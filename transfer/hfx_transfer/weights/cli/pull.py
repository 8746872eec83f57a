"""`hfx-weights pull`: from running seeds into memory, and from there to files or to others."""

import argparse
import sys
from pathlib import Path
from typing import Any

from hfx_sgl.clock import Clock, WallClock
from hfx_sgl.errors import ConfigError, TransferError, TransferFault
from hfx_sgl.launch.progress import Progress
from hfx_transfer.metrics import TransferMetrics
from hfx_transfer.weights.api import load_weights
from hfx_transfer.weights.cli.flags import add_listen_flags, add_token_flag, backends_of, rank_of
from hfx_transfer.weights.cli.waiting import termination
from hfx_transfer.weights.loaded import LoadedWeights
from hfx_transfer.weights.progress import LoadProgress, bar
from hfx_transfer.weights.settings import DEFAULT_LOAD_BACKENDS, LoadSettings, SeedSettings
from hfx_transfer.weights.token import read_token


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "pull",
        help="get weights from seeds",
        description="Gets weights from running seeds, verified chunk by chunk, and writes them as "
        "safetensors files or serves them to others, or both.",
    )
    parser.set_defaults(run=_run)
    whence = parser.add_argument_group("from where")
    whence.add_argument("url", nargs="*", help="seeds, the preferred ones first")
    whence.add_argument(
        "--fallback", type=Path, metavar="PATH", help="safetensors file or folder, used last"
    )
    whence.add_argument("--model-hash", metavar="HASH", help="what it must be (anything)")
    whence.add_argument("--rank", metavar="tp=0/2,...", help="which part it must be (any)")
    add_token_flag(whence)
    how = parser.add_argument_group("how")
    how.add_argument(
        "--backends",
        default=",".join(DEFAULT_LOAD_BACKENDS),
        help="ways to use, the preferred ones first (%(default)s)",
    )
    how.add_argument(
        "--at-once",
        type=int,
        default=LoadSettings().max_active_sources,
        metavar="N",
        help="seeds to pull from at a time; 1 in a chain, where the others take over (%(default)s)",
    )
    how.add_argument(
        "--wait-secs",
        type=float,
        default=LoadSettings().source_wait_s,
        help="how long a seed may take to start (%(default)s)",
    )
    whither = parser.add_argument_group("where to")
    whither.add_argument("--output", type=Path, metavar="FOLDER", help="write files here")
    add_listen_flags(whither, "--serve-port")


def _run(args: argparse.Namespace) -> None:
    if args.output is None and args.serve_port is None:
        raise ConfigError("output: pass --output or --serve-port, or nothing comes of it")
    if not args.url and args.fallback is None:
        raise ConfigError("url: pass the URL of a seed, or --fallback")
    token = read_token(args.token_file)
    settings = LoadSettings(
        token=token,
        backends=backends_of(args.backends),
        rank=rank_of(args.rank),
        model_hash=args.model_hash,
        max_active_sources=args.at_once,
        source_wait_s=args.wait_secs,
    )
    reseed = None
    if args.serve_port is not None:
        reseed = SeedSettings(
            host=args.host, advertise_host=args.advertise_host, port=args.serve_port, token=token
        )
    clock = WallClock()
    progress = Progress(sys.stderr, clock)
    meter = _Meter(progress, clock)
    metrics = TransferMetrics()
    loaded = load_weights(
        from_=args.url,
        fallback=args.fallback,
        settings=settings,
        reseed=reseed,
        on_progress=meter.show,
        clock=clock,
        observer=metrics,
        render_metrics=metrics.render,
    )
    with loaded, termination() as ended:
        progress.finish(_summary(loaded))
        if args.output is not None:
            for path in loaded.save(args.output):
                print(path, flush=True)
        if loaded.seed is not None:
            print(loaded.seed.url, flush=True)
            ended.wait()
        elif reseed is not None:
            raise TransferError(
                f"what was loaded cannot be served on {args.host}:{args.serve_port}",
                fault=TransferFault.UNAVAILABLE,
            )


class _Meter:
    """Turns the bytes so far into a line with a rate."""

    def __init__(self, progress: Progress, clock: Clock) -> None:
        self._progress = progress
        self._clock = clock
        self._began_at_s: float | None = None

    def show(self, state: LoadProgress) -> None:
        """Show a bar; the rate is that since the first call."""
        now_s = self._clock.now_s()
        if self._began_at_s is None:
            self._began_at_s = now_s
        elapsed_s = now_s - self._began_at_s
        rate = state.num_bytes / elapsed_s if elapsed_s > 0 else 0.0
        self._progress.show(bar(state, bytes_per_s=rate))


def _summary(loaded: LoadedWeights) -> str:
    lines = [
        f"{len(loaded.layout.tensors)} tensors, {loaded.layout.size_bytes} bytes, generation "
        f"{loaded.generation}, {'verified' if loaded.is_verified else 'NOT VERIFIED'}"
    ]
    return "\n".join([*lines, *(f"  {source}" for source in loaded.sources)])
