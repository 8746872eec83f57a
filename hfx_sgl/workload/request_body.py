"""The chat completion request of a planned request, byte for byte as the load test sends it.

One place for both users: the load test sends the body, and the simulator shows policies the field
of it that the router would show them.
"""

import json

from hfx_sgl.workload.planned import PlannedRequest
from hfx_sgl.workload.prompt_text import prompt_text

CHAT_PATH = "/v1/chat/completions"
"""Where the body belongs."""

EMULATED_OUTPUT_TOKENS = "emulated_output_tokens"
"""The field that tells an emulated worker how many tokens to produce; real servers ignore it."""


def messages_json(planned: PlannedRequest) -> bytes:
    """Return the JSON text of `messages`: the whole prompt as one message of the user."""
    # A prompt's text is letters and spaces, so nothing in it needs an escape.
    return b'[{"role":"user","content":"%b"}]' % prompt_text(planned.prompt).encode("ascii")


def chat_body(planned: PlannedRequest, model: str) -> bytes:
    """Return the JSON body of a streamed chat completion that reports its usage at the end."""
    priority = b"" if planned.priority is None else b',"priority":%d' % planned.priority
    return (
        b'{"model":%b,"messages":%b,"max_tokens":%d,"stream":true,'
        b'"stream_options":{"include_usage":true},"%b":%d%b}'
    ) % (
        json.dumps(model).encode(),
        messages_json(planned),
        planned.max_output_tokens,
        EMULATED_OUTPUT_TOKENS.encode(),
        planned.num_output_tokens,
        priority,
    )
