"""Engine settings on the command line, under the names that SGLang's server gives them."""

import argparse
from collections.abc import Callable
from typing import NamedTuple

_DEST_PREFIX = "engine_"


class _Value(NamedTuple):
    """A flag with a value, for one field of EngineSpec."""

    flag: str
    field: str
    parse: Callable[[str], object]
    help: str


class _Switch(NamedTuple):
    """A flag without a value, and what it sets its field to."""

    flag: str
    field: str
    value: bool
    help: str


def _chunk_tokens(text: str) -> int | None:
    """Return a chunk size; SGLang's -1 switches chunking off."""
    return None if text == "-1" else int(text)


_VALUES = (
    _Value(
        "--max-total-tokens", "kv_capacity_tokens", int,
        "tokens of KV that fit into one engine (default: the profile's)",
    ),
    _Value(
        "--context-length", "max_context_tokens", int,
        "longest prompt and output together (default: the profile's)",
    ),
    _Value("--page-size", "page_tokens", int, "tokens of one page of KV"),
    _Value("--max-running-requests", "max_running_requests", int, "requests in one batch at most"),
    _Value(
        "--max-queued-requests", "max_queued_requests", int,
        "requests that wait at most; further ones are refused",
    ),
    _Value(
        "--max-prefill-tokens", "max_prefill_tokens", int,
        "prompt tokens of one prefill step at most",
    ),
    _Value(
        "--chunked-prefill-size", "chunked_prefill_tokens", _chunk_tokens,
        "longest piece of a prompt in one step; -1: no limit",
    ),
    _Value(
        "--priority-scheduling-preemption-threshold", "preemption_threshold", int,
        "by how much more priority a request must have to preempt another",
    ),
    _Value(
        "--schedule-conservativeness", "schedule_conservativeness", float,
        "how much of the possible output is expected when admitting",
    ),
    _Value(
        "--num-reserved-decode-tokens", "num_reserved_decode_tokens", int,
        "room that a decode engine keeps for the growth of each request",
    ),
    _Value("--host-overhead-s", "host_overhead_s", float, "host time added to each step"),
    _Value(
        "--handoff-bytes-per-s", "handoff_bytes_per_s", float, "bandwidth of a prefill engine"
    ),
    _Value("--handoff-latency-s", "handoff_latency_s", float, "fixed part of a KV transfer"),
    _Value("--flip-s", "flip_s", float, "seconds that a change of role takes"),
)  # fmt: skip

_SWITCHES = (
    _Switch(
        "--enable-mixed-chunk", "has_mixed_chunk", True,
        "a prefill step also advances the running requests",
    ),
    _Switch("--disable-radix-cache", "has_prefix_cache", False, "no prefix cache"),
    _Switch(
        "--enable-priority-scheduling", "has_priority", True, "higher priority is computed first"
    ),
    _Switch(
        "--disable-priority-preemption", "has_preemption", False,
        "running requests do not give way to those of higher priority",
    ),
)  # fmt: skip


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the settings of engines; one that is not given keeps the engine model's default."""
    group = parser.add_argument_group(
        "engines", "Settings of every engine, named as the arguments of SGLang's server."
    )
    for flag, field, parse, text in _VALUES:
        group.add_argument(
            flag,
            dest=_DEST_PREFIX + field,
            type=parse,
            default=argparse.SUPPRESS,
            metavar="X" if parse is float else "N",
            help=text,
        )
    for flag, field, value, text in _SWITCHES:
        group.add_argument(
            flag,
            dest=_DEST_PREFIX + field,
            action="store_const",
            const=value,
            default=argparse.SUPPRESS,
            help=text,
        )


def engine_settings(args: argparse.Namespace) -> dict[str, object]:
    """Return the fields of EngineSpec that were given."""
    return {
        name.removeprefix(_DEST_PREFIX): value
        for name, value in vars(args).items()
        if name.startswith(_DEST_PREFIX)
    }
