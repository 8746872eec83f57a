"""How much of a prompt workers have cached, by their own word."""

import msgspec

from hfx_router.estimates.prompts import PromptEstimate
from hfx_sgl.policy.estimates.kv_blocks import BlockIndex

_TOKEN_IDS = msgspec.json.Decoder(list[int])
_MAX_TOKEN_ID = 2**31


def known_hit_tokens(
    index: BlockIndex, estimate: PromptEstimate, prompt_json: bytes
) -> dict[str, int] | None:
    """Return the cached tokens of each worker that tells; None when nothing is known.

    The tokens of the prompt must be known: it was counted in time, or it is given as token ids.
    """
    if not index.has_trusted:
        return None
    token_ids = estimate.token_ids
    if token_ids is None and estimate.size.num_ids is not None:
        token_ids = _read_ids(prompt_json)
    return None if token_ids is None else index.hit_tokens(token_ids)


def _read_ids(prompt_json: bytes) -> list[int] | None:
    """Return the tokens of a single prompt; None for a batch, or where they are none."""
    try:
        token_ids = _TOKEN_IDS.decode(prompt_json)
    except msgspec.DecodeError:
        return None
    if token_ids and not (min(token_ids) >= 0 and max(token_ids) < _MAX_TOKEN_ID):
        return None
    return token_ids
