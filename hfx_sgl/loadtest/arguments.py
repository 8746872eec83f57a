"""The flags of `hfx-loadtest`."""

import argparse
import math
from pathlib import Path

from hfx_sgl import __version__
from hfx_sgl.errors import ConfigError
from hfx_sgl.loadtest.settings import (
    Endpoint,
    LoadSettings,
    OutputLengths,
    SloHints,
    Target,
    TokenCount,
    check_base_url,
)

_DESCRIPTION = """\
Sends a workload to an OpenAI-compatible or SGLang endpoint, each request at its planned time
whatever the server does, and measures every answer.
"""
_EXIT_STATUS = """\
exit status: 0 the run is valid; 1 it is not (requests were sent too far from their times, or there
were none), the server cannot be tested, or the run was interrupted; 2 bad arguments or workload.
"""
_MS_PER_S = 1000.0
_DEFAULTS = LoadSettings(target=Target(base_url="", endpoint=Endpoint.CHAT, model=""))
_ENDPOINTS = {"chat": Endpoint.CHAT, "completions": Endpoint.COMPLETIONS} | {
    "generate": Endpoint.GENERATE
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of everything but the workload."""
    parser = argparse.ArgumentParser(
        prog="hfx-loadtest",
        description=_DESCRIPTION,
        epilog=_EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"hfx-loadtest {__version__}")
    _add_server(parser.add_argument_group("server"))
    _add_requests(parser.add_argument_group("requests"))
    _add_measurement(parser.add_argument_group("measurement"))
    _add_output(parser.add_argument_group("output"))
    return parser


def target_from_args(args: argparse.Namespace) -> Target:
    """Return the server under test, with an empty model where none was given.

    Raises:
        ConfigError: a bad URL or header.
    """
    headers = []
    if args.api_key is not None:
        headers.append(("authorization", f"Bearer {args.api_key}"))
    for text in args.header:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"header: {text!r} is not NAME=VALUE")
        headers.append((name.strip().lower(), value.strip()))
    for name, value in headers:
        if not (name + value).isascii() or not (name + value).isprintable() or " " in name:
            raise ConfigError(f"header: {name!r} cannot stand in an HTTP request")
    return Target(
        base_url=check_base_url(args.base_url),
        endpoint=_ENDPOINTS[args.endpoint],
        model=args.model or "",
        headers=tuple(headers),
    )


def settings_from_args(args: argparse.Namespace, target: Target) -> LoadSettings:
    """Return how to send and measure.

    Raises:
        ConfigError: one problem for each value out of range.
    """
    problems = []
    for name, least in (("max_concurrency", 1), ("warmup_requests", 0), ("sample_interval_s", 0)):
        value = getattr(args, name)
        if value is not None and not least <= value < math.inf:
            problems.append(f"{name}: must be at least {least} and finite ({value})")
    for name in ("request_timeout_s", "drain_timeout_s", "max_send_error_ms"):
        value = getattr(args, name)
        if not 0 < value < math.inf:
            problems.append(f"{name}: must be more than 0 and finite ({value})")
    if problems:
        raise ConfigError(*problems)
    return LoadSettings(
        target=target,
        output_lengths=OutputLengths(args.output_lengths),
        slo_hints=SloHints(args.slo_hints),
        token_count=TokenCount(args.count_tokens),
        max_concurrency=args.max_concurrency,
        request_timeout_s=args.request_timeout_s,
        drain_timeout_s=args.drain_timeout_s,
        max_send_error_s=args.max_send_error_ms / _MS_PER_S,
        keeps_itls=args.output_details,
    )


def _add_server(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--base-url", default="http://127.0.0.1:30000", metavar="URL", help="default: %(default)s"
    )
    group.add_argument(
        "--endpoint",
        choices=sorted(_ENDPOINTS),
        default="chat",
        help="/v1/chat/completions, /v1/completions or SGLang's /generate (default: %(default)s)",
    )
    group.add_argument("--model", metavar="NAME", help="default: the first that the server lists")
    group.add_argument("--api-key", metavar="KEY", help="sent as a bearer token")
    group.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="sent with every request; may be repeated",
    )


def _add_requests(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--output-lengths",
        choices=[each.value for each in OutputLengths],
        default=_DEFAULTS.output_lengths.value,
        help="how planned output lengths come about: emulated workers are told by a field of the "
        "body, real engines are made to ignore the end of sequence, or the model ends where it "
        "ends (default: %(default)s)",
    )
    group.add_argument(
        "--slo-hints",
        choices=[each.value for each in SloHints],
        default=_DEFAULTS.slo_hints.value,
        help="what the server is told of promises: x-slo-ttft-ms and x-slo-tpot-ms (an end-to-end "
        "bound goes into the body), x-slo-class, all of it or nothing (default: %(default)s)",
    )
    group.add_argument(
        "--max-concurrency",
        type=int,
        metavar="N",
        help="hold requests back while so many run; where it binds, the run is not open-loop",
    )
    group.add_argument(
        "--request-timeout-s",
        type=float,
        default=_DEFAULTS.request_timeout_s,
        metavar="S",
        help="give an answer up after so long (default: %(default)s)",
    )
    group.add_argument(
        "--drain-timeout-s",
        "--drain-timeout",
        type=float,
        default=_DEFAULTS.drain_timeout_s,
        metavar="S",
        help="give up what has not ended so long after the last sending (default: %(default)s)",
    )
    group.add_argument(
        "--warmup-requests",
        type=int,
        default=1,
        metavar="N",
        help="short requests before the run, which must succeed (default: %(default)s)",
    )


def _add_measurement(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--count-tokens",
        choices=[each.value for each in TokenCount],
        default=_DEFAULTS.token_count.value,
        help="output tokens by the server's usage, or one per event (default: %(default)s)",
    )
    group.add_argument(
        "--max-send-error-ms",
        type=float,
        default=_DEFAULTS.max_send_error_s * _MS_PER_S,
        metavar="MS",
        help="the run is invalid when the 99th percentile of the time between planned and actual "
        "sending exceeds this (default: %(default)s)",
    )
    group.add_argument(
        "--sample-interval-s",
        type=float,
        default=1.0,
        metavar="S",
        help="time between questions for the workers' loads (/v1/loads); 0 asks none "
        "(default: %(default)s)",
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--output", type=Path, metavar="DIR", help="folder for the run; it must not hold one"
    )
    group.add_argument(
        "--output-details",
        action="store_true",
        help="keep the times between tokens in every record",
    )
    group.add_argument("--quiet", action="store_true", help="no progress on stderr")
    for name, what in (
        ("policy", "the router's policy"),
        ("cluster", "the shape of the cluster, such as 4 or 2P+2D"),
        ("profile", "the profile of emulated workers"),
    ):
        group.add_argument(
            f"--{name}", default="unknown", metavar="TEXT", help=f"for the record: {what}"
        )
