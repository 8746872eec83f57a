"""How long an answer may get, as far as its request says."""

import re

from msgspec import UNSET, Raw, UnsetType

from hfx_router.body.inspect import RoutingFields

_MAX_NEW_TOKENS = re.compile(rb'"max_new_tokens"\s*:\s*(\d+|null)')
_GENERATE_DEFAULT = 128
"""SGLang's `max_new_tokens` for `/generate` requests that state none."""
_COMPLETION_DEFAULT = 16
"""The same of `/v1/completions`, as OpenAI has it."""


def max_output_tokens(fields: RoutingFields) -> int | None:
    """Return the most tokens that one answer may have; None where only the context bounds it.

    A value that is no number is none here; the worker refuses it.
    """
    for raw in (fields.max_completion_tokens, fields.max_tokens, fields.max_output_tokens):
        if raw is not UNSET and (stated := _whole_number(raw)) is not None:
            return stated
    if fields.messages is not UNSET:
        return None
    if fields.prompt is not UNSET:
        return _COMPLETION_DEFAULT
    if fields.text is not UNSET or fields.input_ids is not UNSET:
        return _max_new_tokens(fields.sampling_params)
    return None


def _whole_number(raw: Raw) -> int | None:
    digits = bytes(raw)
    return int(digits) if digits.isdigit() and len(digits) < _MAX_DIGITS else None


def _max_new_tokens(sampling_params: Raw | UnsetType) -> int | None:
    """Return the largest limit of a batch, which has a list of parameters."""
    if sampling_params is UNSET:
        return _GENERATE_DEFAULT
    stated = _MAX_NEW_TOKENS.findall(bytes(sampling_params))
    if not stated:
        return _GENERATE_DEFAULT
    if b"null" in stated:
        return None
    return max(int(digits[:_MAX_DIGITS]) for digits in stated)


_MAX_DIGITS = 10
"""No context has a billion tokens, and no text of digits should become a number of any size."""
