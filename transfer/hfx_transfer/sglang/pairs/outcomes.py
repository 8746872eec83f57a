"""What SGLang's words about a failed request say of the way between its two workers. Pure."""

import re

MAX_REASON_CHARS = 200

_HANDSHAKE = b"Decode handshake failed"
"""A decode worker could not meet its prefill worker. SGLang 0.5.23 ends that by an abort of its own
and says so, in the words that it also has for an abort from outside (disaggregation/decode.py,
`_ensure_prefill_info`)."""

_TRANSFER = re.compile(
    rb"KVTransferError|(?:Decode transfer|Prefill transfer|Prefill bootstrap) failed"
    rb"|Lost connection with prefill instance"
)
"""disaggregation/{common/conn,decode,prefill}.py."""

_ABORTED = b"Abort"
"""At any later stage an abort comes from outside. It takes the same way as a failed hand-off and
says nothing about it."""

_WHOSE = re.compile(rb" for request .*KVTransferError\(bootstrap_room=\d+\): | for request .*?: ")
"""Names the request, which is nobody's business but its client's."""

_MESSAGE = re.compile(rb'"message": ?"((?:[^"\\]|\\.)*)"')


def handoff_failure(answer: bytes) -> str | None:
    """Return how a worker says that a hand-off failed; None when it says something else.

    Args:
        answer: the body of an answer with status 500, or the last events of a stream.
    """
    if _HANDSHAKE in answer:
        words = _HANDSHAKE
    else:
        found = _TRANSFER.search(answer)
        if found is None or _ABORTED in answer:
            return None
        words = found[0]
    message = _MESSAGE.search(answer)
    text = message[1] if message is not None else words
    shown = _WHOSE.sub(b": ", text, count=1)[:MAX_REASON_CHARS].decode("utf-8", "replace")
    return " ".join(shown.split())
