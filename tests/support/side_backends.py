"""Backends for the side process that do what no backend should."""

from hfx_transfer.engine.mooncake.backend import MooncakeEngine

CRASH = "crash"
"""A session to be probed."""


class CrashingEngine(MooncakeEngine):
    """Mooncake, and a way to have it read through a pointer that is none."""

    def probe(self, session: str, *, timeout_s: float) -> float | None:
        if session == CRASH:
            from mooncake.engine import TransferEngine

            native = TransferEngine()
            assert native.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
            native.transfer_check_status(0xDEAD0000BEE0)
        return super().probe(session, timeout_s=timeout_s)
