"""`hfx-weights serve|pull|plan`: flags in, exit status out."""

import argparse
import sys
from collections.abc import Sequence

import structlog

from hfx_sgl.errors import ConfigError, TransferError
from hfx_transfer.weights.cli import plan, pull, serve


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 2 for bad flags, 1 for bytes that did not move."""
    args = _parser().parse_args(argv)
    # Results go to stdout, so what is logged must not.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        args.run(args)
    except ConfigError as exc:
        for problem in exc.problems:
            print(f"hfx-weights: {problem}", file=sys.stderr)
        return 2
    except (TransferError, OSError) as exc:
        print(f"hfx-weights: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hfx-weights",
        description="Moves model weights from the memory of one process to others.",
    )
    commands = parser.add_subparsers(required=True, metavar="serve|pull|plan")
    for module in (serve, pull, plan):
        module.add_command(commands)
    return parser
