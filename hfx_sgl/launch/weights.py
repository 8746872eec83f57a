"""The seam to what gives servers their weights when they are not read from disk.

`scripts/launch_pd_cluster` puts the implementation in; nothing here imports it.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Protocol

from hfx_sgl.launch.plan import InstancePlan

GiveUp = Callable[[InstancePlan], str | None]
"""Asked while a server starts: why there is no point in waiting for it any longer; None goes on."""


class ServerStarter(Protocol):
    """Starts servers and stops them again. A `Cluster` is one."""

    def try_add(
        self, *plans: InstancePlan, timeout_s: float | None = None, give_up: GiveUp | None = None
    ) -> dict[str, str]:
        """Start servers and return why some of them do not serve, by name; those are stopped."""
        ...

    def stop(self, name: str) -> None:
        """End one of them in order."""
        ...

    def note(self, text: str) -> None:
        """Tell the user."""
        ...


class WeightBootstrap(Protocol):
    """Starts the servers of a cluster with weights that others hold in memory."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What somebody who is shown the commands has to know beside them."""
        ...

    def check(self, servers: Sequence[InstancePlan]) -> None:
        """Look at the settings alone, before anything is started.

        Raises:
            ConfigError: they cannot work, or SGLang would fall back to the disk without a word.
        """
        ...

    def preview(self, servers: Sequence[InstancePlan]) -> tuple[InstancePlan, ...]:
        """Return the servers as they would be started if everybody asked were a good source."""
        ...

    def start(self, starter: ServerStarter, servers: Sequence[InstancePlan]) -> None:
        """Start the servers and return when all of them serve.

        Raises:
            LaunchError: one of them got its weights neither from a peer nor from disk.
        """
        ...


class WeightBootstrapFlags(Protocol):
    """Makes a `WeightBootstrap` of command-line flags of its own."""

    def add_flags(self, group: argparse._ArgumentGroup) -> None:
        """Add the flags."""
        ...

    def configure(self, args: argparse.Namespace) -> WeightBootstrap | None:
        """Return what the flags ask for; None when they ask for nothing.

        Raises:
            ConfigError: one of them makes no sense.
        """
        ...
