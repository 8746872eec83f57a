"""Where a hand-off goes: a receiver's ticket, checked before anything is written by it."""

from dataclasses import dataclass

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.protocol import Backend, RegionHandle
from hfx_transfer.kv.layout import KvLayout, check_compatible
from hfx_transfer.kv.messages import TicketIssued
from hfx_transfer.kv.pages import pages_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Pages of a receiver, and how to reach them."""

    layout: KvLayout
    regions: tuple[RegionHandle, ...]
    """One for each slab."""
    pages: tuple[int, ...]


def target_of(ticket: TicketIssued, ours: KvLayout, backend: Backend, max_tokens: int) -> Target:
    """Return what a ticket says.

    Args:
        ticket: as it came.
        ours: the sender's layout.
        backend: the sender's.
        max_tokens: what was offered.

    Raises:
        TransferError: it contradicts itself (protocol), or does not fit the sender (incompatible).
    """
    layout = ticket.layout
    check_compatible(ours, layout)
    num_run_pages = sum(run.num_pages for run in ticket.runs)
    problems = (
        (len(ticket.regions) != layout.num_slabs, "another number of slabs"),
        (any(region.backend is not backend for region in ticket.regions), "another backend"),
        (
            any(region.size_bytes != layout.slab_bytes for region in ticket.regions),
            "slabs of another size",
        ),
        (any(not region.is_writable for region in ticket.regions), "slabs that are only read"),
        (num_run_pages > layout.num_pages, "more pages than there are"),
        (num_run_pages < layout.num_pages_for(max_tokens), "too few pages"),
        (
            any(
                run.first_page < 0 or sum(run) > layout.num_pages or run.num_pages < 1
                for run in ticket.runs
            ),
            "pages that there are not",
        ),
    )
    for is_wrong, problem in problems:
        if is_wrong:
            message = f"the receiver's ticket has {problem}"
            raise TransferError(message, fault=TransferFault.PROTOCOL)
    return Target(layout=layout, regions=ticket.regions, pages=pages_of(ticket.runs))
