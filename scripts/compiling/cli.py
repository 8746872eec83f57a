"""The command: compile, clean up, or look whether the extensions are up to date."""

import argparse
import sys
import time
from pathlib import Path

from compiling.modules import built, problems, sources

ROOT = Path(__file__).parents[2]

DESCRIPTION = """\
Compiles the modules that take the time of a decision or a request into C extensions, beside their
sources, with mypyc (part of mypy) and the C compiler of this machine. Python imports them instead
of the sources from then on: after a change of one of these, compile again, or --clean. Nothing
needs them; `hfx-router --version` says which form runs.
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="compile",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--clean", action="store_true", help="remove the extensions")
    what.add_argument(
        "--check",
        action="store_true",
        help="exit with 1 unless they are there and newer than their sources",
    )
    arguments = parser.parse_args(argv)
    if arguments.check:
        return _check()
    for path in list(built(ROOT)):
        path.unlink()
    return 0 if arguments.clean else _build()


def _check() -> int:
    found = problems(ROOT) if any(built(ROOT)) else ["nothing is compiled"]
    for problem in found:
        print(problem, file=sys.stderr)
    return int(bool(found))


def _build() -> int:
    try:
        from compiling.build import build
    except ModuleNotFoundError as exc:
        print(f"compile: {exc}; the extra `compile` has it", file=sys.stderr)
        return 2
    began_s = time.monotonic()
    print(f"compiling {len(sources(ROOT))} modules; takes a few minutes", file=sys.stderr)
    build(ROOT)
    print(f"done in {time.monotonic() - began_s:.0f} s", file=sys.stderr)
    return _check()
