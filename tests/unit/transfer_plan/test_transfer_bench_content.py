import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfer_bench import content
from transfer_bench.plain_ways import run_disk, run_memcpy
from transfer_bench.throttle import ThrottleError, disk_of

SIZE = 1 << 20


@given(st.integers(1 << 19, 1 << 32))
def test_tensors_fill_the_size_without_gaps(half_bytes: int) -> None:
    size_bytes = 2 * half_bytes
    places = content.layout(size_bytes)
    assert len(places) == content.NUM_TENSORS == 160
    assert len({place.name for place in places}) == 160
    end = 0
    for place in places:
        assert place.offset_bytes == end
        assert place.size_bytes > 0
        assert place.size_bytes % 2 == 0
        end += place.size_bytes
    assert end == size_bytes


def test_the_file_is_safetensors(tmp_path: Path) -> None:
    made = content.make_content(tmp_path, SIZE)
    data = Path(made.path).read_bytes()
    (header_bytes,) = struct.unpack("<Q", data[:8])
    assert made.data_offset_bytes == 8 + header_bytes
    assert len(data) == made.data_offset_bytes + SIZE
    header = json.loads(data[8 : 8 + header_bytes])
    assert list(header) == [place.name for place in made.tensors]
    last = made.tensors[-1]
    assert header[last.name] == {
        "dtype": "BF16",
        "shape": [last.size_bytes // 2],
        "data_offsets": [last.offset_bytes, SIZE],
    }


def test_every_way_of_being_wrong_is_seen(tmp_path: Path) -> None:
    made = content.make_content(tmp_path, SIZE)
    memory = bytearray(SIZE)
    view = memoryview(memory)
    assert not content.is_equal(made, content.parts_of(made, view))
    content.read_into(made, view)
    parts = content.parts_of(made, view)
    assert content.is_equal(made, parts)
    memory[SIZE // 2] ^= 1
    assert not content.is_equal(made, parts)
    memory[SIZE // 2] ^= 1
    first, second = parts["layers.0.q"], parts["layers.1.q"]
    parts |= {"layers.0.q": second, "layers.1.q": first}
    assert not content.is_equal(made, parts), "tensors of one size have changed places"


def test_a_file_that_ends_early_is_an_error(tmp_path: Path) -> None:
    made = content.make_content(tmp_path, SIZE)
    with open(made.path, "r+b") as file:
        file.truncate(SIZE // 2)
    with pytest.raises(OSError, match="ends after"):
        content.read_into(made, memoryview(bytearray(SIZE)))


def test_copies_and_reads_are_verified(tmp_path: Path) -> None:
    made = content.make_content(tmp_path, SIZE)
    source = memoryview(bytearray(SIZE))
    assert not run_memcpy(made, source).is_verified
    content.read_into(made, source)
    run = run_memcpy(made, source)
    assert run.is_verified
    assert run.seconds > 0
    assert run_disk(made, how="readinto", is_cold=False).is_verified


def test_a_file_that_is_on_no_disk_cannot_be_limited() -> None:
    with pytest.raises(ThrottleError, match="no block device"):
        disk_of(Path("/proc/self/stat"))
