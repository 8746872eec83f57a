from collections.abc import Callable

import msgspec
import pytest
from hfx_transfer.engine.protocol import Backend, RegionHandle
from hfx_transfer.weights import manifest as manifests
from hfx_transfer.weights.layout import TensorPlace
from hfx_transfer.weights.manifest import Manifest, ParallelRank, SlabEntry, model_hash

from hfx_sgl.errors import TransferError, TransferFault

CHUNK_BYTES = 4096
REGION = RegionHandle(
    backend=Backend.SHM, session="host", base=0, size_bytes=10000, name="hfx", is_writable=False
)


def tensor(name: str, offset: int, *shape: int, dtype: str = "F32") -> TensorPlace:
    size = {"F32": 4, "U8": 1}[dtype]
    for length in shape:
        size *= length
    return TensorPlace(
        name=name, dtype=dtype, shape=shape, slab=0, offset_bytes=offset, size_bytes=size
    )


def make(*tensors: TensorPlace, **changes: object) -> Manifest:
    """A manifest of one slab whose hash fits, whatever else does not."""
    slab = SlabEntry(size_bytes=10000, regions=(REGION,), is_frozen=True)
    fields = {
        "generation": 3,
        "rank": ParallelRank(tp_rank=1, tp_size=2),
        "chunk_bytes": CHUNK_BYTES,
        "tensors": tensors,
        "slabs": (slab,),
        "digests": ("00" * 16,) * 3,
        **changes,
    }
    draft = Manifest(model_hash="", **fields)  # type: ignore[arg-type]
    digest = model_hash(draft.layout, draft.chunk_bytes, draft.digests)
    return msgspec.structs.replace(draft, model_hash=digest)


GOOD = (tensor("a", 0, 10, 10), tensor("b", 400, 7), tensor("c", 0, 0, 5), tensor("d", 400, 7))


def test_what_was_encoded_is_decoded() -> None:
    manifest = make(*GOOD)
    assert manifests.decode(manifests.encode(manifest)) == manifest
    assert manifest.layout.size_bytes == 10000


BAD_TENSORS: dict[str, tuple[TensorPlace, str]] = {
    "size": (msgspec.structs.replace(tensor("x", 0, 3), size_bytes=13), "x has 13 bytes.*takes 12"),
    "past the end": (tensor("x", 9999, 3), "x reaches out of slab 0"),
    "before the beginning": (tensor("x", -4, 3), "x reaches out of slab 0"),
    "overlap": (tensor("x", 402, 7), "x overlaps d"),
    "part of a tied pair": (tensor("x", 400, 6), "overlaps"),
    "no such slab": (msgspec.structs.replace(tensor("x", 0, 3), slab=1), "x lies in slab 1 of 1"),
    "type": (msgspec.structs.replace(tensor("x", 0, 3), dtype="F31"), "x has an unknown type F31"),
    "negative length": (msgspec.structs.replace(tensor("x", 0, 3), shape=(-3,)), "x has the shape"),
    "name there twice": (tensor("d", 800, 3), "d is out of order or there twice"),
    "out of order": (tensor("aa", 800, 3), "aa is out of order"),
    "long name": (tensor("x" * 2000, 800, 3), "has a name of 2000 characters"),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_bad_tensor_is_named(case: str) -> None:
    bad, message = BAD_TENSORS[case]
    with pytest.raises(TransferError, match=message) as caught:
        manifests.decode(manifests.encode(make(*GOOD, bad)))
    assert caught.value.fault is TransferFault.INCOMPATIBLE


BAD_FRAMES: dict[str, tuple[dict[str, object], str]] = {
    "generation": ({"generation": -1}, "generation -1"),
    "tiny chunks": ({"chunk_bytes": 16}, "chunks of 16 bytes"),
    "huge chunks": ({"chunk_bytes": 2 << 30}, "chunks of"),
    "too few digests": ({"digests": ("00" * 16,) * 2}, "2 digests for 3 chunks"),
    "slab without bytes": (
        {"slabs": (SlabEntry(size_bytes=0, regions=(), is_frozen=True),), "digests": ()},
        "slab 0 has 0 bytes",
    ),
    "more than any host has": (
        {"slabs": (SlabEntry(size_bytes=1 << 50, regions=(), is_frozen=True),)},
        "bytes of weights, at most",
    ),
    "region of another size": (
        {"slabs": (SlabEntry(size_bytes=9999, regions=(REGION,), is_frozen=True),)},
        "slab 0 and its shm region differ",
    ),
}


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_bad_frame(case: str) -> None:
    changes, message = BAD_FRAMES[case]
    with pytest.raises(TransferError, match=message) as caught:
        manifests.decode(manifests.encode(make(**changes)))
    assert caught.value.fault is TransferFault.PROTOCOL


def test_other_version_is_incompatible() -> None:
    with pytest.raises(TransferError, match="version 2") as caught:
        manifests.decode(manifests.encode(make(version=2)))
    assert caught.value.fault is TransferFault.INCOMPATIBLE


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff\xfe", b'{"version": 1}', b"null"], ids=repr
)
def test_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(TransferError) as caught:
        manifests.decode(data)
    assert caught.value.fault is TransferFault.PROTOCOL


CHANGES: list[Callable[[Manifest], Manifest]] = [
    lambda m: msgspec.structs.replace(m, digests=("11" * 16, *m.digests[1:])),
    lambda m: msgspec.structs.replace(m, tensors=(tensor("z", 0, 10, 10),)),
    lambda m: msgspec.structs.replace(m, tensors=(tensor("a", 0, 100),)),
    lambda m: msgspec.structs.replace(m, tensors=(tensor("a", 512, 10, 10),)),
    lambda m: msgspec.structs.replace(m, tensors=(tensor("a", 0, 400, dtype="U8"),)),
]


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_hash_that_does_not_fit_the_content(number: int) -> None:
    changed = CHANGES[number](make(tensor("a", 0, 10, 10)))
    with pytest.raises(TransferError, match="its hash is not that of its content"):
        manifests.decode(manifests.encode(changed))


def test_generation_and_rank_are_no_part_of_the_hash() -> None:
    assert make(*GOOD).model_hash == make(*GOOD, generation=9, rank=ParallelRank()).model_hash
