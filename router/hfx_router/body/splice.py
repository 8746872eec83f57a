"""Adds and removes top-level members of a JSON object; the rest stays as the client wrote it."""

import json
import re
from collections.abc import Set

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT = rb'[\[{](?:[^][{}"]++|%b)*+[\]}]' % _STRING
"""An array or object without another inside; a prompt of a million token ids is one match."""
_TOKEN = re.compile(rb"%b|%b|[][{},]" % (_STRING, _FLAT), re.DOTALL)
"""Possessive, so that a long string costs no memory for ways back that are never taken."""
_OPENING = (b"{", b"[")
_CLOSING = (b"}", b"]")
_ENDS_OF_MEMBER = (b",", b"}")


def append_members(body: bytes, members: bytes) -> bytes:
    """Return the object `body` with `members` (JSON text such as `"a":1,"b":2`) at its end.

    `body` is known to be a JSON object. Where it has a member of the same name already, JSON
    readers take the last; remove it first where that is not good enough.
    """
    head = body.rstrip()[:-1]
    if head.rstrip()[-1:] == b"{":  # nothing but an empty object ends so
        return b"%b%b}" % (head, members)
    return b"%b,%b}" % (head, members)


def remove_members(body: bytes, names: Set[str]) -> bytes:
    """Return the object `body` without its top-level members called one of `names`.

    `body` is known to be a JSON object. Other members keep their bytes and their order.
    """
    kept = [span for name, span in _members(body) if name not in names]
    return b"{" + b",".join(kept) + b"}"


def _members(body: bytes) -> list[tuple[str, bytes]]:
    """List name and bytes of each top-level member, in order."""
    members: list[tuple[str, bytes]] = []
    start = body.index(b"{") + 1
    depth = 1
    name: str | None = None
    for match in _TOKEN.finditer(body, start):
        token = match.group()
        if token in _OPENING:
            depth += 1
        elif token in _CLOSING and depth > 1:
            depth -= 1
        elif depth > 1:
            continue
        elif token in _ENDS_OF_MEMBER:
            if name is not None:
                members.append((name, body[start : match.start()].strip()))
            name = None
            start = match.end()
        elif name is None:
            name = _name(token)
    return members


def _name(token: bytes) -> str:
    """Decode the name of a member, which may be no valid UTF-8: nobody has looked at it yet."""
    name: str = json.loads(token.decode("utf-8", "replace"), strict=False)
    return name
