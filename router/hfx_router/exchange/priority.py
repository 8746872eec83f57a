"""Tells engines that schedule by priority how urgent a request is."""

from collections.abc import Iterable

from msgspec import UNSET

from hfx_router.body.inspect import RoutingFields
from hfx_router.body.splice import append_members
from hfx_router.scheduling.dispatcher import Assignment
from hfx_router.workers.worker import Worker


def with_priority(
    body: bytes, fields: RoutingFields, assignment: Assignment, workers: Iterable[Worker]
) -> bytes:
    """Return the body with the priority added, if all its workers understand it in the same way.

    A client's own priority stays. SGLang refuses or ignores one where it does not schedule by it.
    """
    common_sign = 0
    for worker in workers:
        sign = _sign(worker)
        if not sign or sign == -common_sign:
            return body
        common_sign = sign
    if fields.priority is not UNSET:
        return body
    return append_members(body, b'"priority":%d' % (common_sign * assignment.priority))


def _sign(worker: Worker) -> int:
    """Return 1 if higher priorities go first at the worker, -1 if lower ones do, 0 if neither."""
    if worker.metadata.get("enable_priority_scheduling") is not True:
        return 0
    return -1 if worker.metadata.get("schedule_low_priority_values_first") is True else 1
