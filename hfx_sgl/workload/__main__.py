"""Prints what a workload looks like: `python -m hfx_sgl.workload --workload mixed`."""

import argparse
import sys
from collections.abc import Sequence

from hfx_sgl.errors import ConfigError
from hfx_sgl.workload.arguments import add_workload_arguments, workload_from_args
from hfx_sgl.workload.statistics import describe


def main(argv: Sequence[str] | None = None) -> int:
    """Print the statistics of a plan; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m hfx_sgl.workload", description="Describe a workload, class by class."
    )
    add_workload_arguments(parser)
    args = parser.parse_args(argv)
    try:
        print(describe(workload_from_args(args).requests))
    except ConfigError as exc:
        print(exc, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
