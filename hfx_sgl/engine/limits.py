"""Which requests an engine can serve at all, and how much output it grants them."""

from hfx_sgl.engine.refusal import EngineRefusal, RefusalReason
from hfx_sgl.engine.request import EngineRequest
from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.types import Role

NUM_SPARE_INPUT_TOKENS = 5
"""A prompt must leave so many tokens and two more of context and memory (`max_req_input_len`)."""


def granted_new_tokens(
    spec: EngineSpec, role: Role, request: EngineRequest, capacity_tokens: int
) -> int:
    """Return `max_new_tokens` as the engine plans with it: what memory holds at most.

    Raises:
        EngineRefusal: TOO_LONG, prompt and `max_new_tokens` exceed the context, or the prompt
            does not fit the memory with a token of output.
    """
    num_prompt = request.prompt.num_tokens
    num_total = num_prompt + request.max_new_tokens
    if num_prompt >= spec.max_context_tokens or num_total > spec.max_context_tokens:
        raise EngineRefusal(
            RefusalReason.TOO_LONG,
            f"{num_prompt} prompt tokens and {request.max_new_tokens} new tokens exceed the "
            f"context of {spec.max_context_tokens} tokens",
        )
    max_request_tokens = min(spec.max_context_tokens, capacity_tokens) - 1
    page = spec.page_tokens
    # One page more than a prompt of whole pages takes: where all of it is cached, its last page is
    # computed again beside the copy in the cache.
    num_paged = num_prompt - num_prompt % page + page
    granted = min(
        request.max_new_tokens,
        max_request_tokens - num_prompt - 1,
        capacity_tokens - num_paged - page - 1,
    )
    fits_decode = role is not Role.DECODE or (
        num_prompt + -num_prompt % page + spec.num_reserved_decode_tokens <= capacity_tokens
    )
    if granted < 1 or num_prompt >= max_request_tokens - NUM_SPARE_INPUT_TOKENS or not fits_decode:
        raise EngineRefusal(
            RefusalReason.TOO_LONG,
            f"a prompt of {num_prompt} tokens does not fit "
            f"{spec.max_context_tokens} tokens of context and {capacity_tokens} tokens of KV",
        )
    return 1 if role is Role.PREFILL else granted
