"""What the mock worker writes in answer to one request: bytes, pauses, and how it ends.

`answer` builds a well-formed answer; the other functions take a script and spoil it, and can be
combined: `dribbled(cut_body(answer(body=b"..."), 3), 0.01)`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from http import HTTPStatus

from support.wire import encode_chunk, encode_head

JSON_TYPE = (b"content-type", b"application/json")
SSE_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")


class Ending(StrEnum):
    """What happens to the connection after the last step."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"
    STALL = "stall"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Wait `delay_s`, then for `gate` if there is one, then write `data` in one call."""

    data: bytes
    delay_s: float = 0.0
    gate: asyncio.Event | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The steps of one answer. The default writes nothing and hangs until the client leaves."""

    steps: tuple[Step, ...] = ()
    ending: Ending = Ending.STALL

    @property
    def raw(self) -> bytes:
        """Every byte that this script writes."""
        return b"".join(step.data for step in self.steps)


def answer(
    *,
    status: int = 200,
    headers: Sequence[tuple[bytes, bytes]] = (JSON_TYPE,),
    body: bytes = b"",
    chunks: Sequence[bytes] | None = None,
    delay_s: float = 0.0,
    chunk_delay_s: float = 0.0,
    version: bytes = b"HTTP/1.1",
    is_framed: bool = True,
    ending: Ending = Ending.KEEP,
    gate: asyncio.Event | None = None,
) -> Script:
    """Return a well-formed answer.

    Args:
        headers: written as given; the framing header is appended after them.
        chunks: with a list the body goes out chunked, one write per chunk and one for the last
            chunk; without one, `body` goes out with a content-length, in one write with the head.
        delay_s: before the head.
        chunk_delay_s: before every chunk.
        is_framed: False leaves the framing header out and closes, as HTTP/1.0 does.
        gate: nothing is written until it is set.
    """
    line = b"%s %d %s" % (version, status, reason_of(status))
    if chunks is not None:
        head = encode_head(line, [*headers, (b"transfer-encoding", b"chunked")])
        steps = [Step(data=head, delay_s=delay_s, gate=gate)]
        steps += [Step(data=encode_chunk(chunk), delay_s=chunk_delay_s) for chunk in chunks]
        steps.append(Step(data=encode_chunk(b"")))
        return Script(steps=tuple(steps), ending=ending)
    framing = [(b"content-length", b"%d" % len(body))] if is_framed else []
    data = encode_head(line, [*headers, *framing]) + body
    last = ending if is_framed else Ending.CLOSE
    return Script(steps=(Step(data=data, delay_s=delay_s, gate=gate),), ending=last)


def reason_of(status: int) -> bytes:
    """Return the reason phrase of `status`, or `Unknown`."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unknown"


def stalled() -> Script:
    """Write nothing, ever; the connection stays open until the client leaves."""
    return Script()


def closed(ending: Ending = Ending.CLOSE) -> Script:
    """Close (or reset) the connection without writing a byte."""
    return Script(ending=ending)


def garbage(data: bytes = b"\x00\x01 this is not HTTP\r\n\r\n") -> Script:
    """Write bytes that are no HTTP answer, then close."""
    return Script(steps=(Step(data=data),), ending=Ending.CLOSE)


def cut(script: Script, num_bytes: int, ending: Ending = Ending.CLOSE) -> Script:
    """Write only the first `num_bytes` of the script's bytes, in its steps, then end so."""
    steps: list[Step] = []
    left = num_bytes
    for step in script.steps:
        if left <= 0:
            break
        steps.append(replace(step, data=step.data[:left]))
        left -= len(step.data)
    return Script(steps=tuple(steps), ending=ending)


def cut_head(script: Script, ending: Ending = Ending.CLOSE) -> Script:
    """End in the middle of the status line and headers."""
    return cut(script, _head_bytes(script) // 2, ending)


def cut_body(script: Script, num_bytes: int, ending: Ending = Ending.CLOSE) -> Script:
    """End after `num_bytes` of the body as framed on the wire (chunk size lines count)."""
    return cut(script, _head_bytes(script) + num_bytes, ending)


def dribbled(script: Script, byte_delay_s: float = 0.0) -> Script:
    """Write byte by byte, one call each."""
    steps: list[Step] = []
    for step in script.steps:
        for index in range(len(step.data)):
            first = index == 0
            steps.append(
                Step(
                    data=step.data[index : index + 1],
                    delay_s=step.delay_s + byte_delay_s if first else byte_delay_s,
                    gate=step.gate if first else None,
                )
            )
    return Script(steps=tuple(steps), ending=script.ending)


def preceded(script: Script, data: bytes = b"HTTP/1.1 100 Continue\r\n\r\n") -> Script:
    """Write an interim answer (or anything else) first, in a call of its own."""
    return Script(steps=(Step(data=data), *script.steps), ending=script.ending)


def huge_head(num_bytes: int, *, body: bytes = b"{}") -> Script:
    """Return an answer with one header whose value has `num_bytes` bytes."""
    return answer(headers=(JSON_TYPE, (b"x-huge", b"h" * num_bytes)), body=body)


def _head_bytes(script: Script) -> int:
    end = script.raw.find(b"\r\n\r\n")
    if end < 0:
        raise ValueError("the script writes no complete head")
    return end + 4
