"""Addresses on loopback from which only so many bytes a second leave, as from a host's uplink."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from transfer_bench.processes import BenchError

FIRST_ADDRESS = 11
"""127.0.0.11 and on: what runs elsewhere on loopback is not limited."""

_BURST_BYTES = 512 * 1024
"""What may leave at once: some of the largest packets that loopback carries, 64 KiB each."""


def address(index: int) -> str:
    """Return the address of one host."""
    return f"127.0.0.{FIRST_ADDRESS + index}"


@contextmanager
def limited_uplinks(num_hosts: int, bytes_per_s: float) -> Iterator[Sequence[str]]:
    """Limit what leaves each of some addresses; everything else on loopback stays as it is.

    Only in a network namespace of one's own.

    Raises:
        BenchError: `tc` is not there, or the kernel lacks htb or u32.
    """
    hosts = [address(index) for index in range(num_hosts)]
    _tc("qdisc", "add", "dev", "lo", "root", "handle", "1:", "htb")
    try:
        for index, host in enumerate(hosts):
            class_id = f"1:{index + 1:x}"
            rate = f"{int(8 * bytes_per_s)}bit"
            limit = ["rate", rate, "burst", str(_BURST_BYTES), "cburst", str(_BURST_BYTES)]
            _tc("class", "add", "dev", "lo", "parent", "1:", "classid", class_id, "htb",
                *limit, "quantum", "65536")  # fmt: skip
            _tc("filter", "add", "dev", "lo", "parent", "1:", "protocol", "ip", "u32",
                "match", "ip", "src", f"{host}/32", "flowid", class_id)  # fmt: skip
        yield hosts
    finally:
        _tc("qdisc", "del", "dev", "lo", "root")


def _tc(*arguments: str) -> None:
    try:
        outcome = subprocess.run(["tc", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as exc:
        raise BenchError("tc is not installed (Debian package iproute2)") from exc
    if outcome.returncode:
        raise BenchError(f"tc {' '.join(arguments)}: {outcome.stderr.strip()}")
