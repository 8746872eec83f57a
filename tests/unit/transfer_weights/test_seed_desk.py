import pytest
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.weights import manifest as manifests
from hfx_transfer.weights.chunks import from_bitmap
from hfx_transfer.weights.desk import Desk, Published
from hfx_transfer.weights.holding import Holding, hold
from hfx_transfer.weights.layout import TensorSpec, lay_out
from hfx_transfer.weights.lease import LeaseConfig
from hfx_transfer.weights.manifest import Manifest, SlabEntry
from hfx_transfer.weights.wire import LeaseGrant, LeaseRequest, unpack_bitmap
from support.weights import Watch

from hfx_sgl.clock import FakeClock
from hfx_sgl.errors import TransferError, TransferFault


def publish(generation: int, fill: int = 1) -> Published:
    layout = lay_out([TensorSpec(name="w", dtype="U8", shape=(10_000,))])
    slab = HostSlab(layout.slab_sizes_bytes[0])
    slab.view()[:] = bytes([fill]) * slab.size_bytes
    holding = hold(layout, [slab], generation=generation, chunk_bytes=4096)
    identity = holding.identity
    manifest = Manifest(
        model_hash=identity.model_hash,
        generation=generation,
        rank=identity.rank,
        chunk_bytes=identity.chunk_bytes,
        tensors=layout.tensors,
        slabs=(SlabEntry(size_bytes=slab.size_bytes, regions=(), is_frozen=True),),
        digests=identity.digests,
    )
    return Published(holding=holding, manifest=manifest)


class Rig:
    def __init__(self) -> None:
        self.clock = FakeClock(100.0)
        self.watch = Watch()
        self.desk = Desk(LeaseConfig(duration_s=10.0, max_open=2), self.clock, self.watch)

    def show(self, generation: int) -> Published:
        published = publish(generation)
        self.desk.show(published)
        return published

    def lease(self, published: Published) -> LeaseGrant:
        manifest = published.manifest
        return self.desk.grant(
            LeaseRequest(model_hash=manifest.model_hash, generation=manifest.generation)
        )


def num_pins(holding: Holding) -> int:
    return holding.slabs[0].num_pins


def test_slabs_are_pinned_while_a_lease_is_open() -> None:
    rig = Rig()
    published = rig.show(1)
    first, second = rig.lease(published), rig.lease(published)
    assert num_pins(published.holding) == 2
    assert rig.watch.most_leases == 2
    rig.desk.release(first.lease_id)
    rig.desk.release(first.lease_id)
    assert num_pins(published.holding) == 1
    rig.clock.advance(10.0)
    rig.desk.sweep()
    assert num_pins(published.holding) == 0
    with pytest.raises(TransferError) as caught:
        rig.desk.renew(second.lease_id)
    assert caught.value.fault is TransferFault.LEASE_EXPIRED


def test_memory_of_an_old_generation_goes_with_its_last_lease() -> None:
    rig = Rig()
    old = rig.show(1)
    lease = rig.lease(old)
    assert rig.desk.retire() is old
    old.holding.close()
    new = rig.show(2)
    assert manifests.decode(rig.desk.manifest()) == new.manifest
    with pytest.raises(TransferError) as caught:
        rig.desk.renew(lease.lease_id)
    assert caught.value.fault is TransferFault.GENERATION_CHANGED
    old.holding.slabs[0].view()
    rig.desk.release(lease.lease_id)
    with pytest.raises(ValueError, match="closed"):
        old.holding.slabs[0].view()
    assert rig.desk.num_leases() == 0


@pytest.mark.parametrize("asked", ["generation", "model_hash"])
def test_lease_on_other_weights_is_refused(asked: str) -> None:
    rig = Rig()
    manifest = rig.show(1).manifest
    request = {"model_hash": manifest.model_hash, "generation": 1}
    request[asked] = 9 if asked == "generation" else "other"
    with pytest.raises(TransferError) as caught:
        rig.desk.grant(LeaseRequest(**request))  # type: ignore[arg-type]
    assert caught.value.fault is TransferFault.GENERATION_CHANGED


def test_no_more_leases_than_allowed() -> None:
    rig = Rig()
    published = rig.show(1)
    rig.lease(published)
    rig.lease(published)
    with pytest.raises(TransferError, match="2 leases are open") as caught:
        rig.lease(published)
    assert caught.value.fault is TransferFault.UNAVAILABLE
    rig.clock.advance(10.0)
    assert rig.lease(published).duration_s == 10.0


def test_nothing_is_answered_while_nothing_is_served() -> None:
    rig = Rig()
    published = rig.show(1)
    rig.desk.retire()
    for ask in (rig.desk.manifest, rig.desk.chunk_state, lambda: rig.lease(published)):
        with pytest.raises(TransferError, match="nothing is served"):
            ask()
    assert rig.desk.num_verified() == 0
    assert rig.desk.retire() is None


def test_chunks_of_an_incomplete_holding() -> None:
    rig = Rig()
    manifest = publish(1).manifest
    holding = Holding.for_manifest(manifest, [HostSlab(manifest.slabs[0].size_bytes)])
    rig.desk.show(Published(holding=holding, manifest=manifest))
    holding.verified.add(1)
    state = rig.desk.chunk_state()
    assert (state.num_chunks, state.num_verified) == (3, 1)
    assert from_bitmap(unpack_bitmap(state.bitmap), 3) == {1}
    holding.verified.add(0)
    holding.verified.add(2)
    state = rig.desk.chunk_state()
    assert (state.num_verified, state.bitmap) == (3, "")


def test_end_all_unpins_everything() -> None:
    rig = Rig()
    published = rig.show(1)
    rig.lease(published)
    rig.desk.end_all()
    assert num_pins(published.holding) == 0
