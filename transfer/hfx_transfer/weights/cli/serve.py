"""`hfx-weights serve`: safetensors files into memory, from there to whoever asks."""

import argparse
import sys
from pathlib import Path
from typing import Any

from hfx_sgl.clock import WallClock
from hfx_sgl.launch.progress import Progress
from hfx_transfer.metrics import TransferMetrics
from hfx_transfer.weights.api import serve_weights
from hfx_transfer.weights.chunks import DEFAULT_CHUNK_BYTES
from hfx_transfer.weights.cli.flags import add_listen_flags, add_token_flag, backends_of, rank_of
from hfx_transfer.weights.cli.waiting import termination
from hfx_transfer.weights.lease import LeaseConfig
from hfx_transfer.weights.settings import DEFAULT_SEED_BACKENDS, SeedSettings
from hfx_transfer.weights.token import read_token

_MIB = 1 << 20


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "serve",
        help="serve safetensors files from memory",
        description="Reads safetensors files into memory and serves them until Ctrl-C. Prints the "
        "URL that receivers need, then a line with what is served.",
    )
    parser.set_defaults(run=_run)
    what = parser.add_argument_group("what to serve")
    what.add_argument("path", type=Path, help="a safetensors file, or a folder of them")
    what.add_argument(
        "--generation", type=int, default=0, help="grows whenever the weights change (%(default)s)"
    )
    what.add_argument(
        "--rank", metavar="tp=0/2,...", help="which part of the model this is (all of it)"
    )
    what.add_argument(
        "--chunk-mib",
        type=int,
        default=DEFAULT_CHUNK_BYTES // _MIB,
        help="how much is verified at a time (%(default)s)",
    )
    where = parser.add_argument_group("where and to whom")
    add_listen_flags(where, "--port")
    add_token_flag(where)
    where.add_argument(
        "--backends",
        default=",".join(DEFAULT_SEED_BACKENDS),
        help="ways to offer: shm, socket, mooncake (%(default)s)",
    )
    where.add_argument(
        "--lease-secs",
        type=float,
        default=LeaseConfig().duration_s,
        help="how long a receiver that died keeps memory (%(default)s)",
    )


def _run(args: argparse.Namespace) -> None:
    settings = SeedSettings(
        host=args.host,
        advertise_host=args.advertise_host,
        port=args.port or 0,
        token=read_token(args.token_file),
        backends=backends_of(args.backends),
        chunk_bytes=args.chunk_mib * _MIB,
        lease=LeaseConfig(duration_s=args.lease_secs),
    )
    rank = rank_of(args.rank)
    metrics = TransferMetrics()
    progress = Progress(sys.stderr, WallClock())
    progress.show(f"reading and digesting {args.path}")
    with (
        termination() as ended,
        serve_weights(
            args.path,
            generation=args.generation,
            rank=rank,
            settings=settings,
            observer=metrics,
            render_metrics=metrics.render,
        ) as seed,
    ):
        manifest = seed.manifest
        size_bytes = sum(slab.size_bytes for slab in manifest.slabs)
        progress.finish("ready")
        print(seed.url)
        print(
            f"{len(manifest.tensors)} tensors, {size_bytes} bytes, generation "
            f"{manifest.generation}, model hash {manifest.model_hash}",
            flush=True,
        )
        ended.wait()
