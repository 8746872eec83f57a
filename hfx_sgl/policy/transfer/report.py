"""A plan for people to read, as lines of text."""

from collections.abc import Iterator

from hfx_sgl.policy.transfer.distribution import Assignment, DistributionPlan


def plan_lines(plan: DistributionPlan) -> Iterator[str]:
    """Yield one line on the whole, one for each receiver, and one on where disk wins."""
    others = plan.alternatives
    star = "not possible, too few leases" if others.star_s is None else f"{others.star_s:.3g} s"
    yield (
        f"{plan.shape}, {len(plan.assignments)} receivers: the last is done after "
        f"{plan.last_finish_s:.3g} s, on average {plan.mean_finish_s:.3g} s"
    )
    yield (
        f"instead: all from one source {star}, one behind the other {others.chain_s:.3g} s, "
        f"one after the other {others.serial_s:.3g} s"
    )
    for assignment in plan.assignments:
        yield "  " * assignment.depth + _line(assignment)
    if any(assignment.disk_finish_s is not None for assignment in plan.assignments):
        yield _disk_line(plan)


def _line(assignment: Assignment) -> str:
    disk = assignment.disk_finish_s
    return (
        f"{assignment.receiver_id} from {assignment.parent_id}: "
        f"{assignment.bytes_per_s / 1e6:,.0f} MB/s, done after {assignment.finish_s:.3g} s"
        + ("" if disk is None else f", from disk after {disk:.3g} s")
        + (" - DISK IS FASTER" if assignment.is_disk_faster else "")
    )


def _disk_line(plan: DistributionPlan) -> str:
    faster = sorted(a.receiver_id for a in plan.assignments if a.is_disk_faster)
    if not faster:
        return "disk wins nowhere"
    return f"disk wins for {len(faster)} of {len(plan.assignments)}: {', '.join(faster)}"
