"""Which host a server is on, as far as its address tells."""

import socket

THIS_HOST = "this host"


def host_of(hostname: str) -> str:
    """Return `THIS_HOST` for an address of this machine, and the name itself for any other.

    A name that cannot be resolved stays what it is: nothing can be taken from there anyway.
    """
    try:
        found = socket.getaddrinfo(hostname, 0, type=socket.SOCK_STREAM)
    except OSError:
        return hostname
    is_own = any(_is_own(family, address[0]) for family, _, _, _, address in found)
    return THIS_HOST if is_own else hostname


def _is_own(family: int, address: object) -> bool:
    """Whether a socket can be bound to it, which is the case for a machine's own alone."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
