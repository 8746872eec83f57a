"""The disk as the last source: safetensors files into slabs, whatever the slabs' layout."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.file.engine import FileEngine, file_handle
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.engine.window import Span, pull
from hfx_transfer.memory.copying import copy_into
from hfx_transfer.memory.slab import Slab
from hfx_transfer.weights.chunks import Chunk
from hfx_transfer.weights.layout import Layout, TensorPlace, gaps
from hfx_transfer.weights.safetensors_file import StoredTensor

_READ_BYTES = 16 << 20
"""How much one read takes: what disks were measured to be fastest with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """Bytes to read from a file."""

    path: Path
    file_offset: int
    slab: int
    slab_offset: int
    size_bytes: int


def match(
    layout: Layout, stored: Mapping[str, StoredTensor]
) -> dict[tuple[int, int], StoredTensor]:
    """Return what to read to each place (slab, offset) of a layout.

    Of tied tensors files often hold one only.

    Raises:
        TransferError: a tensor is missing or of another type or shape (incompatible).
    """
    found: dict[tuple[int, int], StoredTensor] = {}
    for place in layout.tensors:
        tensor = stored.get(place.name)
        if tensor is None or not place.size_bytes:
            continue
        if (tensor.spec.dtype, tensor.spec.shape) != (place.dtype, place.shape):
            raise TransferError(
                f"{tensor.path}: tensor {place.name} is {tensor.spec.dtype} "
                f"{list(tensor.spec.shape)}, not {place.dtype} {list(place.shape)}",
                fault=TransferFault.INCOMPATIBLE,
            )
        found[place.slab, place.offset_bytes] = tensor
    missing = [
        place.name
        for place in layout.tensors
        if place.size_bytes and (place.slab, place.offset_bytes) not in found
    ]
    if missing:
        raise TransferError(
            f"the files lack {len(missing)} tensors, among them {', '.join(missing[:3])}",
            fault=TransferFault.INCOMPATIBLE,
        )
    return found


def read(
    layout: Layout,
    slabs: Sequence[Slab],
    chunks: Iterable[Chunk],
    stored: Mapping[str, StoredTensor],
    *,
    clock: Clock,
) -> None:
    """Fill chunks of slabs from files; bytes that belong to no tensor become zeros.

    Raises:
        TransferError: a tensor is missing or differs (incompatible), or a file cannot be read.
    """
    sources = match(layout, stored)
    by_file: dict[Path, list[_Piece]] = {}
    for slab, begin, end in _runs(chunks):
        _zero_gaps(layout, slabs[slab], slab, begin, end)
        for piece in _pieces(layout, sources, slab, begin, end):
            by_file.setdefault(piece.path, []).append(piece)
    engine = FileEngine(EngineSettings())
    for path, pieces in by_file.items():
        peer = engine.connect(
            file_handle(path),
            first_contact_timeout_s=EngineSettings().first_contact_timeout_s,
        )
        try:
            spans = (
                Span(
                    local=slabs[piece.slab],
                    local_offset=piece.slab_offset,
                    remote_offset=piece.file_offset,
                    size_bytes=piece.size_bytes,
                )
                for piece in pieces
            )
            pull(peer, spans, clock=clock, on_done=lambda span, digest: None)
        finally:
            peer.close()


def _runs(chunks: Iterable[Chunk]) -> Iterator[tuple[int, int, int]]:
    """Yield (slab, begin, end) of chunks that follow each other."""
    run: tuple[int, int, int] | None = None
    for chunk in sorted(chunks, key=lambda chunk: chunk.index):
        end = chunk.offset_bytes + chunk.size_bytes
        if run is not None and run[0] == chunk.slab and run[2] == chunk.offset_bytes:
            run = (run[0], run[1], end)
            continue
        if run is not None:
            yield run
        run = (chunk.slab, chunk.offset_bytes, end)
    if run is not None:
        yield run


def _pieces(
    layout: Layout, sources: Mapping[tuple[int, int], StoredTensor], slab: int, begin: int, end: int
) -> Iterator[_Piece]:
    places: dict[int, TensorPlace] = {
        place.offset_bytes: place
        for place in layout.tensors
        if place.slab == slab and place.offset_bytes < end and place.end_bytes > begin
    }
    for offset, place in places.items():
        tensor = sources[slab, offset]
        stop = min(end, place.end_bytes)
        for at in range(max(begin, offset), stop, _READ_BYTES):
            yield _Piece(
                path=tensor.path,
                file_offset=tensor.offset_bytes + at - offset,
                slab=slab,
                slab_offset=at,
                size_bytes=min(_READ_BYTES, stop - at),
            )


def _zero_gaps(layout: Layout, slab: Slab, index: int, begin: int, end: int) -> None:
    for gap_begin, gap_end in gaps(layout, index):
        first, last = max(begin, gap_begin), min(end, gap_end)
        if first < last:
            copy_into(slab, first, memoryview(bytearray(last - first)))
