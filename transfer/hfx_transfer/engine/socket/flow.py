"""Moves bytes between a slab and a wire, through host memory where a device holds the slab."""

from collections.abc import Iterator

import xxhash

from hfx_transfer.engine.socket.wire import Wire
from hfx_transfer.memory.copying import STAGE_BYTES, copy_into, copy_out_of, is_host, new_stage
from hfx_transfer.memory.slab import Slab


def send_from(wire: Wire, slab: Slab, offset: int, size_bytes: int) -> None:
    """Send a part of a pinned slab. Raises what `Wire.send` does."""
    if is_host(slab):
        wire.send(slab.view()[offset : offset + size_bytes])
        return
    stage = new_stage(slab)
    for part_offset, part_bytes in _parts(offset, size_bytes):
        part = stage[:part_bytes]
        copy_out_of(slab, part_offset, part)
        wire.send(part)


def receive_to(wire: Wire, slab: Slab, offset: int, size_bytes: int) -> None:
    """Fill a part of a pinned slab. Raises what `Wire.receive_into` does."""
    if is_host(slab):
        wire.receive_into(slab.view()[offset : offset + size_bytes])
        return
    stage = new_stage(slab)
    for part_offset, part_bytes in _parts(offset, size_bytes):
        part = stage[:part_bytes]
        wire.receive_into(part)
        copy_into(slab, part_offset, part)


def receive_digested(wire: Wire, slab: Slab, offset: int, size_bytes: int) -> str | None:
    """Fill a part of a pinned slab, and return the xxh3_128 of what is there now.

    None for a device: what passed through the host's memory would not be it. Raises what
    `Wire.receive_parts` does.
    """
    if not is_host(slab):
        receive_to(wire, slab, offset, size_bytes)
        return None
    hasher = xxhash.xxh3_128()
    for part in wire.receive_parts(slab.view()[offset : offset + size_bytes]):
        hasher.update(part)
    return hasher.hexdigest()


def discard(wire: Wire, size_bytes: int) -> None:
    """Receive bytes that are wanted nowhere."""
    scratch = memoryview(bytearray(min(size_bytes, STAGE_BYTES)))
    for _, part_bytes in _parts(0, size_bytes):
        wire.receive_into(scratch[:part_bytes])


def _parts(offset: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    for done_bytes in range(0, size_bytes, STAGE_BYTES):
        yield offset + done_bytes, min(STAGE_BYTES, size_bytes - done_bytes)
