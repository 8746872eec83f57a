"""The safetensors format: which tensors a file holds and where; writing one. No library, no torch.

A file is 8 bytes of length (little-endian), a JSON header of that length, then the tensors' bytes,
to which the header's offsets refer.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.weights.dtypes import BITS_PER_ELEMENT
from hfx_transfer.weights.layout import TensorSpec

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
"""What the format's own library accepts."""
_HEADER_ALIGNMENT = 8
_METADATA = "__metadata__"


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor in a file."""

    spec: TensorSpec
    path: Path
    offset_bytes: int
    """From the beginning of the file."""


def find_tensors(path: Path) -> dict[str, StoredTensor]:
    """Return all tensors of a safetensors file, or of all such files in a folder, by name.

    Raises:
        TransferError: there is no such file (unavailable), it is none of that format (protocol),
            or a name is there twice (incompatible).
    """
    found: dict[str, StoredTensor] = {}
    for file in _files(path):
        for tensor in _read_header(file):
            name = tensor.spec.name
            if name in found:
                raise TransferError(
                    f"tensor {name} is in {found[name].path} and in {file}",
                    fault=TransferFault.INCOMPATIBLE,
                )
            found[name] = tensor
    return found


def write_file(
    path: Path, specs: Sequence[TensorSpec], write: Callable[[int, TensorSpec], None]
) -> None:
    """Create a file that holds these tensors; it appears under its name when it is complete.

    Args:
        path: what it is called in the end.
        specs: the tensors, in the order of their bytes.
        write: writes one tensor's bytes to a file descriptor.

    Raises:
        OSError: there is no room, or no right to write.
    """
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        file.write(_header(specs))
        file.flush()
        for spec in specs:
            write(file.fileno(), spec)
        os.fsync(file.fileno())
    partial.replace(path)


def _header(specs: Sequence[TensorSpec]) -> bytes:
    entries: dict[str, object] = {_METADATA: {"format": "pt"}}
    end = 0
    for spec in specs:
        begin, end = end, end + spec.size_bytes
        entries[spec.name] = {
            "dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [begin, end]
        }  # fmt: skip
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _HEADER_ALIGNMENT)
    return len(header).to_bytes(_LENGTH_BYTES, "little") + header


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        if not files:
            raise TransferError(
                f"{path}: no safetensors file in it", fault=TransferFault.UNAVAILABLE
            )
        return files
    return [path]


def _read_header(path: Path) -> Iterator[StoredTensor]:
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if not 2 <= length <= _MAX_HEADER_BYTES:
                raise _broken(path, f"a header of {length} bytes")
            header = file.read(length)
            if len(header) < length:
                raise _broken(path, f"{len(header)} bytes of a header of {length}")
            file_bytes = os.fstat(file.fileno()).st_size
    except OSError as exc:
        raise TransferError(f"{path}: {exc.strerror}", fault=TransferFault.UNAVAILABLE) from exc
    try:
        raw = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        raw.pop(_METADATA, None)
        entries = {name: msgspec.json.decode(entry, type=_Entry) for name, entry in raw.items()}
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise _broken(path, str(exc)) from exc
    yield from _stored(path, entries, _LENGTH_BYTES + length, file_bytes)


def _stored(
    path: Path, entries: Mapping[str, _Entry], data_begin: int, file_bytes: int
) -> Iterator[StoredTensor]:
    for name, entry in entries.items():
        if entry.dtype not in BITS_PER_ELEMENT:
            raise TransferError(
                f"{path}: tensor {name} has an unknown type {entry.dtype}",
                fault=TransferFault.INCOMPATIBLE,
            )
        begin, end = entry.data_offsets
        spec = TensorSpec(name=name, dtype=entry.dtype, shape=entry.shape)
        if begin < 0 or end - begin != spec.size_bytes or data_begin + end > file_bytes:
            raise _broken(path, f"tensor {name} at {begin} to {end}")
        yield StoredTensor(spec=spec, path=path, offset_bytes=data_begin + begin)


def _broken(path: Path, what: str) -> TransferError:
    return TransferError(f"{path}: no good safetensors file: {what}", fault=TransferFault.PROTOCOL)
