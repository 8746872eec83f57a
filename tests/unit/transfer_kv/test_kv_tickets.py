"""A receiver's ticket is checked before anything is written by it."""

import msgspec
import pytest
from hfx_transfer.engine.protocol import Backend, RegionHandle
from hfx_transfer.kv.layout import KvDtype, KvLayout
from hfx_transfer.kv.messages import TicketIssued
from hfx_transfer.kv.pages import PageRun
from hfx_transfer.kv.target import target_of

from hfx_sgl.errors import TransferError, TransferFault

LAYOUT = KvLayout(
    num_layers=2, page_tokens=4, num_kv_heads=1, head_dim=2, dtype=KvDtype.FLOAT16, num_pages=8
)
REGION = RegionHandle(
    backend=Backend.SOCKET,
    session="127.0.0.1:1",
    base=1,
    size_bytes=LAYOUT.slab_bytes,
    is_writable=True,
)
TICKET = TicketIssued(
    handoff_id="h",
    layout=LAYOUT,
    regions=(REGION,),
    runs=(PageRun(6, 2), PageRun(0, 1)),
    max_tokens=12,
    time_left_s=None,
)


def test_a_good_ticket_says_where_to_write() -> None:
    target = target_of(TICKET, LAYOUT, Backend.SOCKET, 12)
    assert (target.pages, target.regions) == ((6, 7, 0), (REGION,))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"regions": ()}, "another number of slabs"),
        ({"regions": (msgspec.structs.replace(REGION, backend=Backend.SHM),)}, "another backend"),
        ({"regions": (msgspec.structs.replace(REGION, size_bytes=9),)}, "slabs of another size"),
        (
            {"regions": (msgspec.structs.replace(REGION, is_writable=False),)},
            "slabs that are only read",
        ),
        ({"runs": (PageRun(0, 9),)}, "more pages than there are"),
        ({"runs": (PageRun(0, 2),)}, "too few pages"),
        ({"runs": (PageRun(6, 3),)}, "pages that there are not"),
        ({"runs": (PageRun(-1, 3),)}, "pages that there are not"),
    ],
)
def test_a_ticket_that_contradicts_itself_is_refused(
    changes: dict[str, object], problem: str
) -> None:
    ticket = msgspec.structs.replace(TICKET, **changes)
    with pytest.raises(TransferError, match=problem) as caught:
        target_of(ticket, LAYOUT, Backend.SOCKET, 12)
    assert caught.value.fault is TransferFault.PROTOCOL


def test_a_ticket_of_other_kv_is_refused() -> None:
    ours = msgspec.structs.replace(LAYOUT, head_dim=4)
    with pytest.raises(TransferError, match="head_dim") as caught:
        target_of(TICKET, ours, Backend.SOCKET, 12)
    assert caught.value.fault is TransferFault.INCOMPATIBLE
