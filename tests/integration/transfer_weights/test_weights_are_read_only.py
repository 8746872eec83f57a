"""Who may read weights cannot change them for everybody else."""

import time
from pathlib import Path

import msgspec
import pytest
from hfx_transfer.engine.capability import open_engine
from hfx_transfer.engine.protocol import Backend, Operation, TicketState
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.weights import load_weights
from support.weights import file_contents, loaded_contents, served

from hfx_sgl.errors import TransferFault


@pytest.mark.parametrize("backend", [Backend.SOCKET, Backend.SHM])
def test_peers_cannot_write_to_what_a_seed_serves(weights_file: Path, backend: Backend) -> None:
    with served(weights_file, backend) as seed:
        [region] = seed.manifest.slabs[0].regions
        assert not region.is_writable
        if backend is Backend.SOCKET:
            # Only what the peer maps by itself hangs on what the handle says.
            region = msgspec.structs.replace(region, is_writable=True)
        engine = open_engine(backend, EngineSettings())
        peer = engine.connect(region, first_contact_timeout_s=5)
        ticket = peer.submit(
            Operation.WRITE, HostSlab(4096), local_offset=0, remote_offset=0, size_bytes=4096
        )
        while ticket.poll() is TicketState.RUNNING:
            time.sleep(0.001)
        assert ticket.fault is TransferFault.INCOMPATIBLE
        peer.close()
        engine.close()
        with load_weights(from_=seed.url) as loaded:
            assert loaded_contents(loaded) == file_contents(weights_file)
