"""Two children of one kind: who has the weights, and who takes them."""

from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from transfer_bench.content import Content
from transfer_bench.engine_way import ENVIRONMENT
from transfer_bench.processes import Station
from transfer_bench.results import Way

START_TIMEOUT_S = 300.0
"""Until torch and the engines are imported and a GiB is read and digested, on a busy machine."""

NUM_CONNECTIONS = 2


class PairKind(StrEnum):
    """What the children have loaded."""

    PLAIN = "plain"
    """No engine."""
    BATCH = "batch"
    """Mooncake itself, with its own defaults."""
    OURS = "ours"
    """This project's transfer layer."""


class Pair:
    """Source and taker. Stopped by who made it."""

    def __init__(self, kind: PairKind, content: Content, *, log_dir: Path) -> None:
        self.kind = kind
        env = ENVIRONMENT if kind is PairKind.BATCH else None
        self.source = Station(f"{kind}-source", log_dir=log_dir, env=env)
        self.taker = Station(f"{kind}-taker", log_dir=log_dir, env=env)
        described = msgspec.to_builtins(content)
        try:
            for station in (self.source, self.taker):
                station.ask("describe", timeout_s=START_TIMEOUT_S, content=described)
            self._offer = self.source.ask(f"serve_{kind}", timeout_s=START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise

    def question(self, way: Way) -> tuple[str, dict[str, Any]]:
        """Return what the taker is asked for one way."""
        match way:
            case Way.MEMCPY:
                return "memcpy", {}
            case Way.SOCKETS:
                return "sockets", {"port": self._offer, "num_connections": NUM_CONNECTIONS}
            case Way.DISK_COLD:
                return "disk", {"how": "safetensors", "is_cold": True}
            case Way.DISK_WARM:
                return "disk", {"how": "safetensors", "is_cold": False}
            case Way.BATCH:
                return "batch", self._offer
            case Way.MOONCAKE | Way.SOCKET | Way.SHM_COPY | Way.SHM_CHECKED | Way.SHM | Way.CUDA:
                return "ours", {"url": self._offer, "way": way}
            case _:
                return "disk", {"how": "readinto", "is_cold": True}

    def stop(self) -> None:
        """End both."""
        self.taker.stop()
        self.source.stop()
