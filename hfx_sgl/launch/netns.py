"""Moves this process into a network namespace that has nothing but loopback.

Mooncake's TCP transport listens on every interface whatever it is told; in such a namespace that
is 127.0.0.1 and ::1. Everything started from the calling thread afterwards is inside too, and the
namespace is gone when the last process in it ends.
"""

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

from hfx_sgl.errors import LaunchError

_CLONE_NEWNET = 0x40000000
_CAP_NET_ADMIN = 12
_CAP_SYS_ADMIN = 21
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1


def is_isolated() -> bool:
    """Whether this process already sees no interface but loopback."""
    return [name for _, name in socket.if_nameindex()] == ["lo"]


def can_isolate() -> bool:
    """Whether `isolate` would succeed: root may, but not in a container without the privilege."""
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    needed = 1 << _CAP_SYS_ADMIN | 1 << _CAP_NET_ADMIN
    return is_isolated() or int(effective.split()[1], 16) & needed == needed


def isolate() -> None:
    """Enter a fresh loopback-only namespace; nothing happens when already in one.

    Call it in the main thread before anything is started: it concerns the calling thread and
    what that starts later. There is no way back.

    Raises:
        LaunchError: the system does not allow it.
    """
    if not is_isolated():
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise LaunchError(f"cannot make a network namespace ({reason})")
    _bring_loopback_up()


def shell_prefix(pid: int) -> str:
    """Return what to put before a command so that it runs in the namespace of process `pid`."""
    return f"nsenter --target {pid} --net "


def _bring_loopback_up() -> None:
    """Set the interface's UP flag; the kernel then assigns 127.0.0.1 and ::1."""
    # struct ifreq: the name, then a union as wide as a struct ifmap, of which flags take a short.
    request = struct.pack("16sH22x", b"lo", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
        flags = struct.unpack("16sH22x", answer)[1]
        if not flags & _IFF_UP:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))
