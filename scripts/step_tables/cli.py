"""The command line of `scripts/make_step_tables`: a source of step times in, a profile out."""

import argparse
import sys
import tempfile
from pathlib import Path

from step_tables.aic import AIC_VERSION, AicError, ensure_aic, read_model
from step_tables.folder import ProfileFacts, differing_files, write_profile
from step_tables.measurements import COLUMNS, read_measurements
from step_tables.shipped import SHIPPED, SOURCE

from hfx_sgl.engine import profile
from hfx_sgl.errors import ConfigError

ROOT = Path(__file__).parents[2]
SHIPPED_DIR = Path(profile.__file__).parent / "profiles"

DESCRIPTION = f"""\
Makes engine profiles: folders with the step times of one model on one kind of device.

  shipped   makes the profiles that ship with hfx_sgl again
  aic       makes a profile from aiconfigurator-core {AIC_VERSION}, a database of operators measured
            under SGLang on NVIDIA devices
  csv       makes a profile from your own measurements

hfx_sgl/engine/profiles/README.md describes the files. Exits with 0 when the profile is written and
loads, with 1 when aiconfigurator failed (or `shipped --check` found a difference), with 2 on bad
arguments or measurements.
"""
CSV_DESCRIPTION = f"""\
FILE has a header with the columns
  {",".join(COLUMNS)}
and one measured step a row; cells that do not belong to the kind stay empty:
  kind=prefill   num_prompts prompts of new_tokens each, behind a cached prefix of prefix_tokens
  kind=decode    num_running requests with context_tokens each
  kind=mixed     both at once; leave these out if you have none, then they are estimated
latency_ms is the time on the device, without the scheduler's. Measure prefill of one prompt on a
grid of new_tokens and prefix_tokens (0 among them), of several prompts without a prefix, decode on
a grid of num_running and context_tokens. Large corners may be missing, cells within the grid not.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = _make_parser().parse_args(argv)
    try:
        if arguments.command == "shipped":
            return _make_shipped(arguments)
        if arguments.command == "aic":
            return _make_from_aic(arguments)
        write_profile(arguments.output, _facts_of(arguments), read_measurements(arguments.file))
        print(arguments.output)
        return 0
    except ConfigError as exc:
        print(*exc.problems, sep="\n", file=sys.stderr)
        return 2
    except AicError as exc:
        print(f"make_step_tables: {exc}", file=sys.stderr)
        return 1


def _make_parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="make_step_tables", description=DESCRIPTION, formatter_class=formatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    shipped = commands.add_parser("shipped", help="the profiles that ship with hfx_sgl")
    shipped.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(SHIPPED)} (default: all)"
    )
    shipped.add_argument("--output-dir", type=Path, default=SHIPPED_DIR, metavar="DIR")
    shipped.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if any file would change"
    )
    _add_venv(shipped)

    aic = commands.add_parser("aic", help="a profile from aiconfigurator-core")
    aic.add_argument("output", type=Path, help="folder to write; its name is the profile's name")
    source = aic.add_argument_group("what to look up")
    source.add_argument(
        "--aic-model", required=True, help="a name it knows, or a folder with a config.json"
    )
    source.add_argument("--aic-system", required=True, help="its name of the device: h100_sxm, ...")
    _add_facts(aic, source=SOURCE)
    _add_venv(aic)

    own = commands.add_parser(
        "csv",
        help="a profile from your own measurements",
        description=CSV_DESCRIPTION,
        formatter_class=formatter,
    )
    own.add_argument("file", type=Path, help="the measurements")
    own.add_argument("output", type=Path, help="folder to write; its name is the profile's name")
    _add_facts(own, source=None)
    return parser


def _add_facts(parser: argparse.ArgumentParser, source: str | None) -> None:
    group = parser.add_argument_group("profile.yaml")
    group.add_argument("--model", required=True, help="the model's public name")
    group.add_argument("--device", required=True, help="the device's name")
    group.add_argument(
        "--num-devices", type=int, default=1, help="devices that share one engine (default 1)"
    )
    group.add_argument(
        "--source", required=source is None, default=source, help="where the times come from"
    )
    group.add_argument(
        "--kv-capacity-tokens",
        type=int,
        required=True,
        help="what an SGLang server reports as max_total_num_tokens",
    )
    group.add_argument(
        "--kv-bytes-per-token",
        type=int,
        required=True,
        help="2 x layers x KV heads x head size x bytes of a number, over all devices",
    )
    group.add_argument("--max-context-tokens", type=int, required=True)


def _add_venv(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--venv",
        type=Path,
        default=ROOT / ".venv-aic",
        metavar="DIR",
        help=f"where aiconfigurator-core {AIC_VERSION} is, or is installed (600 MB), unless the"
        " running Python has it (default: .venv-aic in the checkout)",
    )


def _facts_of(arguments: argparse.Namespace) -> ProfileFacts:
    return ProfileFacts(
        model=arguments.model,
        device=arguments.device,
        num_devices=arguments.num_devices,
        source=arguments.source,
        kv_capacity_tokens=arguments.kv_capacity_tokens,
        kv_bytes_per_token=arguments.kv_bytes_per_token,
        max_context_tokens=arguments.max_context_tokens,
    )


def _make_from_aic(arguments: argparse.Namespace) -> int:
    python = ensure_aic(arguments.venv)
    rows = read_model(
        python,
        arguments.aic_model,
        arguments.aic_system,
        arguments.num_devices,
        str(arguments.output),
    )
    write_profile(arguments.output, _facts_of(arguments), rows)
    print(arguments.output)
    return 0


def _make_shipped(arguments: argparse.Namespace) -> int:
    unknown = [name for name in arguments.names if name not in SHIPPED]
    if unknown:
        raise ConfigError(*(f"{name}: ships with no such profile" for name in unknown))
    python = ensure_aic(arguments.venv)
    status = 0
    for name in arguments.names or SHIPPED:
        shipped = SHIPPED[name]
        with tempfile.TemporaryDirectory() as scratch:
            model = shipped.aic_model(Path(scratch))
            rows = read_model(python, model, shipped.aic_system, shipped.facts.num_devices, name)
            if not arguments.check:
                write_profile(arguments.output_dir / name, shipped.facts, rows)
                continue
            fresh = Path(scratch) / name
            write_profile(fresh, shipped.facts, rows)
            for file_name in differing_files(fresh, arguments.output_dir / name):
                print(f"{name}/{file_name}: differs", file=sys.stderr)
                status = 1
    return status
