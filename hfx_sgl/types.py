"""Words that every component shares. Holds no behaviour."""

from enum import StrEnum


class Role(StrEnum):
    """What a worker does. The values are the `worker_type` strings of the wire contract."""

    REGULAR = "regular"
    PREFILL = "prefill"
    DECODE = "decode"
