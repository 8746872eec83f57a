"""Adds and removes top-level members of a JSON object as bytes, so that the rest stays as the client wrote it."""

import re
from collections.abc import Set

import msgspec

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]', re.DOTALL)
_OPENING = (b"{", b"[")
_CLOSING = (b"}", b"]")


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
    depth = 0
    start = 0
    name: str | None = None
    for match in _TOKEN.finditer(body):
        token = match.group()
        if token in _OPENING:
            depth += 1
            if depth == 1:
                start = match.end()
        elif token in _CLOSING or (token == b"," and depth == 1):
            if depth == 1 and name is not None:
                members.append((name, body[start : match.start()].strip()))
                name = None
            if token == b",":
                start = match.end()
            else:
                depth -= 1
        elif depth == 1 and name is None and token[:1] == b'"':
            name = msgspec.json.decode(token, type=str)
    return members
