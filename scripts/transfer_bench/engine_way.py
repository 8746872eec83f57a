"""What SGLang's remote-instance loader does: all tensors in one blocking batch call of Mooncake."""

import ctypes
import importlib
from typing import Any

from transfer_bench.content import Content, is_equal, read_into
from transfer_bench.plain_ways import HOST, fresh
from transfer_bench.timing import Timed, timed, verified

ENVIRONMENT = {
    "MC_FORCE_TCP": "1",
    "MC_LOG_LEVEL": "ERROR",
    "MC_MIN_RPC_PORT": "15000",
    "MC_MAX_RPC_PORT": "17000",
}
"""Read when the library is loaded; everything else has the library's defaults, as in SGLang."""


class NativeEngine:
    """One engine of Mooncake over TCP; kept until the process ends, as its end takes a second."""

    def __init__(self) -> None:
        self._engine: Any = importlib.import_module("mooncake.engine").TransferEngine()
        if self._engine.initialize(HOST, "P2PHANDSHAKE", "tcp", ""):
            raise RuntimeError("Mooncake makes no engine")

    @property
    def session(self) -> str:
        """How peers name it."""
        return f"{HOST}:{self._engine.get_rpc_port()}"

    def register(self, addresses: list[int], sizes: list[int]) -> None:
        """Let it touch this memory."""
        if self._engine.batch_register_memory(addresses, sizes):
            raise RuntimeError("Mooncake does not register memory")

    def unregister(self, addresses: list[int]) -> None:
        """Let it touch this memory no more."""
        if self._engine.batch_unregister_memory(addresses):
            raise RuntimeError("Mooncake does not unregister memory")

    def read(self, session: str, here: list[int], there: list[int], sizes: list[int]) -> bool:
        """Read all ranges with one blocking call; whether that went well."""
        status: int = self._engine.batch_transfer_sync_read(session, here, there, sizes)
        return status == 0


class Tensors:
    """Memory of its own for each tensor, as a model has it."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self._memory = [fresh(place.size_bytes, has_large_pages=False) for place in content.tensors]
        self.sizes = [place.size_bytes for place in content.tensors]
        self.addresses = [
            ctypes.addressof(ctypes.c_char.from_buffer(memory)) for memory in self._memory
        ]

    def fill(self) -> None:
        """Put the weights into it."""
        whole = memoryview(fresh(self.content.size_bytes))
        read_into(self.content, whole)
        for place, memory in zip(self.content.tensors, self._memory, strict=True):
            memory[:] = whole[place.offset_bytes : place.offset_bytes + place.size_bytes]

    def is_equal(self) -> bool:
        """Whether all of it holds what it should."""
        places = zip(self.content.tensors, self._memory, strict=True)
        return is_equal(self.content, {place.name: memoryview(m) for place, m in places})


def run_batch_read(
    engine: NativeEngine, content: Content, *, session: str, there: list[int]
) -> Timed:
    """Read all tensors; making and registering the memory is not part of the time."""
    tensors = Tensors(content)
    engine.register(tensors.addresses, tensors.sizes)
    outcome: list[bool] = []
    run = timed(
        lambda: outcome.append(engine.read(session, tensors.addresses, there, tensors.sizes))
    )
    engine.unregister(tensors.addresses)
    return verified(run, outcome[0] and tensors.is_equal())
