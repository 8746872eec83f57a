"""Cuts a server-sent event stream into its events, wherever the network cut it. Touches no socket.

Servers of this API put an event's JSON on a single `data:` line, so a line is an event. Other
fields and comments are passed over.
"""

_DATA = b"data:"


class EventSplitter:
    """Feed it the payload of a stream; it returns what each complete `data:` line says."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def feed(self, payload: bytes) -> list[bytes]:
        """Take the next piece; return the events that it completes, without white space around."""
        if b"\n" not in payload:
            self._pieces.append(payload)
            return []
        if self._pieces:
            payload = b"".join((*self._pieces, payload))
            self._pieces.clear()
        lines = payload.split(b"\n")
        if rest := lines.pop():
            self._pieces.append(rest)
        return [line[len(_DATA) :].strip() for line in lines if line.startswith(_DATA)]
