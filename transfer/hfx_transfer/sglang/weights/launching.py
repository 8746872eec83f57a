"""What `scripts/launch_pd_cluster` gets put in: `--bootstrap-from` and what it leads to."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hfx_sgl.launch.plan import InstancePlan
from hfx_sgl.launch.weights import ServerStarter
from hfx_transfer.sglang.weights.flags import clone_args
from hfx_transfer.sglang.weights.settings import CloneSettings
from hfx_transfer.sglang.weights.start import check_servers, start_clones

_LIMITS = (
    ("probe_timeout_s", "for each answer of a peer that is asked"),
    ("contact_timeout_s", "for the first contact between transfer engines"),
    ("start_timeout_s", "for a server to start from a peer"),
    ("silence_timeout_s", "until a peer that does not answer is given up"),
    ("checksum_timeout_s", "for a server to digest its weights"),
)


class PeerWeights:
    """Starts the servers of a cluster from running peers. A `WeightBootstrap`."""

    def __init__(self, urls: Sequence[str], settings: CloneSettings) -> None:
        self._urls = tuple(urls)
        self._settings = settings

    @property
    def notes(self) -> tuple[str, ...]:
        """What the commands alone do not say."""
        return (
            "Shown as if the peers were good sources, each in turn. When servers are started for",
            "real, the peers are asked, the best is taken, servers pass weights on to each other,",
            "the weights are compared, and a server that gets none reads them from disk.",
        )

    def check(self, servers: Sequence[InstancePlan]) -> None:
        """Look at the settings alone, before anything is started.

        Raises:
            ConfigError: a URL is none, or a flag does not go with weights from a peer.
        """
        check_servers(servers, self._urls)

    def preview(self, servers: Sequence[InstancePlan]) -> tuple[InstancePlan, ...]:
        """Return the servers as they would be started if everybody asked were a good source."""
        return tuple(
            replace(server, argv=(*server.argv, *clone_args(self._urls[number % len(self._urls)])))
            for number, server in enumerate(servers)
        )

    def start(self, starter: ServerStarter, servers: Sequence[InstancePlan]) -> None:
        """Start the servers and return when all of them serve.

        Raises:
            ConfigError: the SGLang environment cannot take weights from a peer.
            LaunchError: one of them got its weights neither from a peer nor from disk.
        """
        start_clones(starter, servers, self._urls, self._settings)


class PeerWeightsFlags:
    """The flags of `PeerWeights`. A `WeightBootstrapFlags`."""

    def add_flags(self, group: argparse._ArgumentGroup) -> None:
        """Add the flags."""
        group.add_argument(
            "--bootstrap-from",
            nargs="+",
            metavar="URL",
            help="take the weights from running servers (http://HOST:PORT), or from those behind a "
            "router; they must have been started with --seed-weights or --bootstrap-from. The disk "
            "is read when none of them will do",
        )
        defaults = CloneSettings()
        for name, what in _LIMITS:
            group.add_argument(
                _flag(name),
                type=float,
                default=getattr(defaults, name),
                metavar="S",
                dest=f"bootstrap_{name}",
                help=f"limit {what} (%(default)g)",
            )

    def configure(self, args: argparse.Namespace) -> PeerWeights | None:
        """Return what the flags ask for; None without `--bootstrap-from`.

        Raises:
            ConfigError: a limit is out of bounds.
        """
        if args.bootstrap_from is None:
            return None
        limits: dict[str, Any] = {name: getattr(args, f"bootstrap_{name}") for name, _ in _LIMITS}
        return PeerWeights(args.bootstrap_from, CloneSettings(**limits))


def _flag(name: str) -> str:
    return f"--bootstrap-{name.removesuffix('_s').replace('_', '-')}-secs"
