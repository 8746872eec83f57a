"""`hfx-report`: turns run folders into a page with tables and plots."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hfx_sgl.errors import ConfigError
from hfx_sgl.report.grid import arrange
from hfx_sgl.report.page import write_report
from hfx_sgl.results.reader import Run, read_run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = _parser().parse_args(argv)
    try:
        runs = list(_read_runs(args.runs))
        page = write_report(
            arrange(runs), args.output, title=args.title, detail_load=args.detail_load
        )
    except ConfigError as exc:
        print(f"hfx-report: {exc}", file=sys.stderr)
        return 2
    print(page)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hfx-report",
        description="Write report.md with tables and plots of runs of hfx-sim and hfx-loadtest.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="run folders, or folders that hold some",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="where to")
    parser.add_argument(
        "--title", default="Runs", help="heading of the page (default: %(default)s)"
    )
    parser.add_argument(
        "--detail-load",
        type=float,
        metavar="FACTOR",
        help="load factor of the close-ups (default: the lowest at which some policy attains "
        "less than 90 %%)",
    )
    return parser


def _read_runs(folders: Sequence[Path]) -> list[Run]:
    """Return the runs in the folders and below, in order of path."""
    found: list[Path] = []
    for folder in folders:
        infos = sorted(folder.rglob("run.json"))
        if not infos:
            raise ConfigError(f"{folder}: no run in it (no run.json)")
        found += [path.parent for path in infos]
    return [read_run(path) for path in dict.fromkeys(found)]
