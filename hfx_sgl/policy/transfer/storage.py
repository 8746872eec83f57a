"""Where reading from storage is faster than pulling from a peer."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hfx_sgl.policy.transfer.network import Receiver, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What storage offers one receiver."""

    finish_s: float
    """When it is done, together with all others that are better off reading from the same store."""
    is_faster: bool
    """Whether that is sooner than what the plan promises it."""


def readings(
    size_bytes: int,
    receivers: Sequence[Receiver],
    stores: Sequence[Store],
    finish_s: Mapping[str, float],
) -> dict[str, Reading]:
    """Return what storage offers each receiver that has a store.

    A store shares its rate among those that read at once, so not all of them are better off
    there: those with the latest `finish_s` read, as many as each of them gains by it. A receiver
    that reads in the order of the chunks has none of them later than the pipeline would have
    brought it, so those that pull from it lose nothing.
    """
    rates = {store.store_id: store.bytes_per_s for store in stores}
    users: dict[str, list[str]] = defaultdict(list)
    for receiver in receivers:
        if receiver.store_id is not None:
            users[receiver.store_id].append(receiver.receiver_id)
    found: dict[str, Reading] = {}
    for store_id, ids in users.items():
        alone_s = size_bytes / rates[store_id]
        ids.sort(key=lambda receiver_id: (-finish_s[receiver_id], receiver_id))
        counts = range(1, len(ids) + 1)
        num_readers = max((n for n in counts if n * alone_s < finish_s[ids[n - 1]]), default=0)
        for place, receiver_id in enumerate(ids, start=1):
            is_faster = place <= num_readers
            together = num_readers if is_faster else num_readers + 1
            found[receiver_id] = Reading(finish_s=together * alone_s, is_faster=is_faster)
    return found
