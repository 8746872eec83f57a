"""The parts of a request's body that more than one program has to agree on.

The load test sends them, the simulator shows them to policies, and emulated workers read them.
"""

from hfx_sgl.workload.planned import PlannedRequest
from hfx_sgl.workload.prompt_text import prompt_text

EMULATED_OUTPUT_TOKENS = "emulated_output_tokens"
"""The field that tells an emulated worker how many tokens to produce; real servers ignore it."""


def messages_json(planned: PlannedRequest) -> bytes:
    """Return the JSON text of `messages`: the whole prompt as one message of the user."""
    # A prompt's text is letters and spaces, so nothing in it needs an escape.
    return b'[{"role":"user","content":"%b"}]' % prompt_text(planned.prompt).encode("ascii")
