import json
import os
from pathlib import Path

import pytest
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.weights.chunks import ChunkGrid
from hfx_transfer.weights.disk import read
from hfx_transfer.weights.layout import Layout, TensorSpec, lay_out
from hfx_transfer.weights.safetensors_file import StoredTensor, find_tensors, write_file

from hfx_sgl.clock import WallClock
from hfx_sgl.errors import TransferError, TransferFault

SPECS = [
    TensorSpec(name="b", dtype="BF16", shape=(3, 1000)),
    TensorSpec(name="a", dtype="U8", shape=()),
    TensorSpec(name="empty", dtype="F32", shape=(0, 7)),
    TensorSpec(name="c", dtype="I64", shape=(500,)),
]


def content_of(spec: TensorSpec) -> bytes:
    return bytes(
        (len(spec.name) * 31 + ord(spec.name[0]) + i) % 251 for i in range(spec.size_bytes)
    )


def write(path: Path, *specs: TensorSpec) -> Path:
    write_file(path, specs, lambda fd, spec: _write(fd, content_of(spec)))
    return path


def _write(fd: int, data: bytes) -> None:
    os.write(fd, data)


def test_what_was_written_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", *SPECS)
    found = find_tensors(path)
    assert [tensor.spec for tensor in found.values()] == SPECS
    data = path.read_bytes()
    for spec in SPECS:
        begin = found[spec.name].offset_bytes
        assert data[begin : begin + spec.size_bytes] == content_of(spec)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.safetensors"]


def test_header_is_what_the_format_says(tmp_path: Path) -> None:
    data = write(tmp_path / "m.safetensors", SPECS[0]).read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    assert json.loads(data[8 : 8 + length])["b"] == {
        "dtype": "BF16",
        "shape": [3, 1000],
        "data_offsets": [0, 6000],
    }
    assert len(data) == 8 + length + 6000


def test_file_that_could_not_be_finished_is_not_there(tmp_path: Path) -> None:
    def fail(fd: int, spec: TensorSpec) -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        write_file(tmp_path / "m.safetensors", SPECS, fail)
    assert not (tmp_path / "m.safetensors").exists()


def test_folder_of_files(tmp_path: Path) -> None:
    write(tmp_path / "1.safetensors", *SPECS[:2])
    write(tmp_path / "2.safetensors", *SPECS[2:])
    (tmp_path / "config.json").write_text("{}")
    assert set(find_tensors(tmp_path)) == {"a", "b", "c", "empty"}
    write(tmp_path / "3.safetensors", SPECS[1])
    with pytest.raises(
        TransferError, match=r"tensor a is in .*1\.safetensors and in .*3"
    ) as caught:
        find_tensors(tmp_path)
    assert caught.value.fault is TransferFault.INCOMPATIBLE


def raw(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


ENTRY = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}

BROKEN = {
    "nothing": b"",
    "a header longer than the file": raw({}, length=1000),
    "an absurd header length": raw({}, length=1 << 40),
    "no JSON": raw(b"{]"),
    "no object": raw([1, 2]),
    "an entry without offsets": raw({"a": {"dtype": "U8", "shape": [4]}}, b"1234"),
    "offsets of another size": raw({"a": ENTRY | {"data_offsets": [0, 3]}}, b"1234"),
    "offsets backwards": raw({"a": ENTRY | {"data_offsets": [4, 0]}}, b"1234"),
    "bytes that are not there": raw({"a": ENTRY}, b"123"),
    "a negative shape": raw({"a": ENTRY | {"shape": [-4]}}, b"1234"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_file(tmp_path: Path, case: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(BROKEN[case])
    with pytest.raises(TransferError, match="no good safetensors file") as caught:
        find_tensors(path)
    assert caught.value.fault is TransferFault.PROTOCOL


def test_unknown_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(raw({"a": ENTRY | {"dtype": "F2"}}, b"1234"))
    with pytest.raises(TransferError, match="tensor a has an unknown type F2") as caught:
        find_tensors(path)
    assert caught.value.fault is TransferFault.INCOMPATIBLE


@pytest.mark.parametrize("name", ["missing.safetensors", ""])
def test_nothing_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(TransferError) as caught:
        find_tensors(tmp_path / name)
    assert caught.value.fault is TransferFault.UNAVAILABLE


CHUNK_BYTES = 4096


def fill(layout: Layout, stored: dict[str, StoredTensor], *indices: int) -> bytes:
    """Read some chunks into a slab of ones; return the slab."""
    grid = ChunkGrid(layout.slab_sizes_bytes, CHUNK_BYTES)
    slab = HostSlab(layout.slab_sizes_bytes[0])
    slab.view()[:] = b"\x01" * slab.size_bytes
    read(layout, [slab], [grid[index] for index in indices], stored, clock=WallClock())
    return bytes(slab.view())


def expected(layout: Layout) -> bytes:
    content = bytearray(layout.slab_sizes_bytes[0])
    for place in layout.tensors:
        spec = TensorSpec(name=place.name, dtype=place.dtype, shape=place.shape)
        content[place.offset_bytes : place.end_bytes] = content_of(spec)
    return bytes(content)


def test_file_is_read_into_any_layout_with_zeros_between(tmp_path: Path) -> None:
    stored = find_tensors(write(tmp_path / "m.safetensors", *SPECS))
    layout = lay_out(SPECS)
    assert fill(layout, stored, 0, 1, 2) == expected(layout)


def test_only_the_chunks_asked_for_are_touched(tmp_path: Path) -> None:
    stored = find_tensors(write(tmp_path / "m.safetensors", *SPECS))
    layout = lay_out(SPECS)
    found, all_of_it = fill(layout, stored, 1), expected(layout)
    assert found[CHUNK_BYTES : 2 * CHUNK_BYTES] == all_of_it[CHUNK_BYTES : 2 * CHUNK_BYTES]
    assert set(found[:CHUNK_BYTES]) == set(found[2 * CHUNK_BYTES :]) == {1}


def test_one_of_tied_tensors_suffices(tmp_path: Path) -> None:
    stored = find_tensors(write(tmp_path / "m.safetensors", *SPECS))
    twin = TensorSpec(name="twin", dtype="I64", shape=(500,))
    layout = lay_out([*SPECS, twin], tied_to={"twin": "c"})
    assert fill(layout, stored, 0, 1, 2)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (TensorSpec(name="d", dtype="U8", shape=(5,)), "lack 1 tensors, among them d"),
        (TensorSpec(name="a", dtype="U8", shape=(5,)), r"tensor a is U8 \[\], not U8 \[5\]"),
        (TensorSpec(name="c", dtype="F64", shape=(500,)), r"tensor c is I64 \[500\], not F64"),
    ],
)
def test_file_of_another_model(tmp_path: Path, spec: TensorSpec, message: str) -> None:
    stored = find_tensors(write(tmp_path / "m.safetensors", *SPECS))
    with pytest.raises(TransferError, match=message) as caught:
        fill(lay_out([spec]), stored, 0)
    assert caught.value.fault is TransferFault.INCOMPATIBLE
