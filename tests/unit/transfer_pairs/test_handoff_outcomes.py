"""What SGLang's words about a failed request say of the way between its two workers."""

import json

import pytest
from hfx_transfer.sglang.pairs.outcomes import MAX_REASON_CHARS, handoff_failure

LOST = (
    "Decode transfer failed for request rank=0 decode_req.req.rid='r1' "
    "decode_req.req.bootstrap_room=7 with exception KVTransferError(bootstrap_room=7): "
    "Lost connection with prefill instance (bootstrap_addr: 10.0.0.1:8998)"
)
HANDSHAKE = (
    "Decode handshake failed for request rank=0 decode_req.req.rid='r1' "
    "decode_req.req.bootstrap_room=7 with exception KVTransferError(bootstrap_room=7): "
    "Aborted by AbortReq."
)
"""What SGLang 0.5.23 says where nobody listens at the bootstrap port."""
SENT = (
    "Prefill transfer failed for request rank=0 req.rid='r1' req.bootstrap_room=7 with exception "
    "KVTransferError(bootstrap_room=7): Failed to send kv chunk of 7"
)
BOOTSTRAP = "Prefill bootstrap failed for request rank=0 req.rid='r1' req.bootstrap_room=7"


NATIVE_EVENT = (
    b'data: {"text":"","output_ids":[],"meta_info":{"id":"r1","finish_reason":{"type":"abort",'
    b'"message":"%b","status_code":500,"err_type":null},"prompt_tokens":2}}\n\ndata: [DONE]\n\n'
)


def flat(message: str) -> bytes:
    return json.dumps({"object": "error", "message": message, "code": 500}).encode()


EMULATED = (
    "Decode transfer failed for request 'r1', bootstrap_room=7: Lost connection with the other"
)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            LOST,
            "Decode transfer failed: Lost connection with prefill instance (bootstrap_addr: "
            "10.0.0.1:8998)",
        ),
        (HANDSHAKE, "Decode handshake failed: Aborted by AbortReq."),
        (SENT, "Prefill transfer failed: Failed to send kv chunk of 7"),
        (BOOTSTRAP, BOOTSTRAP),
        (EMULATED, "Decode transfer failed: Lost connection with the other"),
    ],
)
def test_failed_hand_offs_in_answers_and_in_streams(message: str, reason: str) -> None:
    event = b'data: {"error": ' + flat(message) + b"}\n\ndata: [DONE]\n\n"
    native = NATIVE_EVENT % message.encode()
    for answer in (flat(message), flat(message).replace(b'": "', b'":"'), event, native):
        assert handoff_failure(answer) == reason


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"Internal Server Error",
        flat("CUDA out of memory"),
        flat("The request is evicted from the queue by one of higher priority."),
        flat("Decode transfer failed for request rank=0 with exception KVTransferError"
             "(bootstrap_room=7): Aborted by AbortReq."),
        flat("Prefill bootstrap failed for request 'r1', bootstrap_room=7: Aborted."),
        b'{"text": "how a handshake failed", "meta_info": {}}',
    ],
)  # fmt: skip
def test_other_failures_and_aborts_say_nothing_about_the_link(answer: bytes) -> None:
    assert handoff_failure(answer) is None


def test_a_reason_is_one_line_of_text_whatever_the_worker_sends() -> None:
    answer = b'{"message": "KVTransferError \xff\xfe ' + b"x" * 5000 + b'"}'
    reason = handoff_failure(answer)
    assert reason is not None
    assert len(reason) <= MAX_REASON_CHARS
    assert reason.isprintable() or "\ufffd" in reason
    assert "\n" not in reason
    assert handoff_failure(b"KVTransferError") == "KVTransferError"
