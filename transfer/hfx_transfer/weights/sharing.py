"""Weights of a process on this host, mapped instead of copied."""

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.engine.shm.engine import ShmEngine
from hfx_transfer.memory.shared import SharedSlab
from hfx_transfer.weights.control_client import ControlClient
from hfx_transfer.weights.digests import digest_all
from hfx_transfer.weights.engines import EngineSet
from hfx_transfer.weights.holding import Holding, identity_of
from hfx_transfer.weights.manifest import Manifest
from hfx_transfer.weights.route import handles_of


def map_weights(
    client: ControlClient, manifest: Manifest, engines: EngineSet, *, verify: bool
) -> Holding:
    """Return a complete holding whose slabs are the source's memory.

    What this process writes to them stays in this process. They outlive the source, because the
    mapping holds the memory. Only memory that its owner will not change is mapped, so nothing
    can differ later from what the source digested; `verify` digests it once more.

    Raises:
        TransferError: the source offers no such memory (unavailable), it is on another host, its
            weights changed, or (verify) a digest is wrong.
    """
    handles = handles_of(manifest, Backend.SHM)
    if handles is None or not all(slab.is_frozen for slab in manifest.slabs):
        raise TransferError(
            f"{client.url}: its memory is not shared, or may still change",
            fault=TransferFault.UNAVAILABLE,
        )
    engine = engines.get(Backend.SHM)
    assert isinstance(engine, ShmEngine)
    slabs: list[SharedSlab] = []
    lease = client.lease(manifest)
    try:
        for handle in handles:
            slabs.append(engine.map(handle))
        if client.chunks(manifest, num_known=-1, wait_s=0.0) is not None:
            raise TransferError(
                f"{client.url}: it is still loading", fault=TransferFault.UNAVAILABLE
            )
        if verify and digest_all(slabs, manifest.chunk_bytes) != manifest.digests:
            raise TransferError(
                f"{client.url}: its memory is not what its digests say",
                fault=TransferFault.DIGEST_MISMATCH,
            )
        client.renew(lease.lease_id)
    except BaseException:
        for slab in slabs:
            slab.close()
        raise
    finally:
        client.release(lease.lease_id)
    return Holding(manifest.layout, slabs, identity_of(manifest), is_frozen=False, is_complete=True)
