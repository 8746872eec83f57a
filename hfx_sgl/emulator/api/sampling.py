"""What of the sampling parameters matters to an emulated model: how long it talks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from hfx_sgl.emulator.api.fields import is_whole
from hfx_sgl.emulator.failures import BodyError, Json, SamplingError, ValueRefused
from hfx_sgl.emulator.output import natural_length

DEFAULT_NEW_TOKENS = 128
"""Of the native endpoint and of completions; chat may go on to the end of the context."""

_WHOLE = ("max_new_tokens", "min_new_tokens", "n", "top_k", "stream_interval", "beam_width")
_NUMBERS = (
    "temperature", "top_p", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty",
)  # fmt: skip
_FLAGS = ("ignore_eos", "skip_special_tokens", "spaces_between_special_tokens", "no_stop_trim")
_OTHERS = (
    "stop", "stop_token_ids", "stop_regex", "json_schema", "regex", "ebnf", "structural_tag",
    "logit_bias", "sampling_seed", "custom_params", "watermark", "choice",
)  # fmt: skip
_KNOWN: Final = frozenset((*_WHOLE, *_NUMBERS, *_FLAGS, *_OTHERS))

_RANGES: Final[Mapping[str, tuple[float, float, bool]]] = MappingProxyType(
    {
        "temperature": (0.0, math.inf, True),
        "top_p": (0.0, 1.0, False),
        "min_p": (0.0, 1.0, True),
        "frequency_penalty": (-2.0, 2.0, True),
        "presence_penalty": (-2.0, 2.0, True),
        "repetition_penalty": (0.0, 2.0, False),
        "max_new_tokens": (0, math.inf, True),
        "min_new_tokens": (0, math.inf, True),
        "n": (1, math.inf, True),
    }
)
"""Least and greatest value, and whether the least itself is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """The parameters of one prompt."""

    max_new_tokens: int | None = DEFAULT_NEW_TOKENS
    """None: as many as the context holds."""
    min_new_tokens: int = 0
    ignores_eos: bool = False
    num_samples: int = 1

    def output_length(self, seed: int, max_new_tokens: int, asked: int | None) -> int:
        """Return how many tokens the model produces for a prompt.

        Args:
            seed: stands for the prompt.
            max_new_tokens: the bound, once the context is known.
            asked: `emulated_output_tokens`; it has the first word.
        """
        if asked is not None:
            return asked
        if self.ignores_eos:
            return max_new_tokens
        return min(max(natural_length(seed), self.min_new_tokens), max_new_tokens)


def read_native(value: Any) -> Sampling:
    """Read one object of `sampling_params`.

    Raises:
        SamplingError: a field is unknown or has a wrong type.
        ValueRefused: a value is out of range.
    """
    if value is None:
        return Sampling()
    if not isinstance(value, dict):
        raise SamplingError(f"sampling_params: must be an object, not {value!r}")
    for name, given in value.items():
        problem = _type_problem(name, given)
        if problem is not None:
            raise SamplingError(f"sampling_params: {problem}")
    return _sampling(value, DEFAULT_NEW_TOKENS)


def read_openai(body: Json, *, max_new_tokens: int | None) -> Sampling:
    """Read the parameters from the top of an OpenAI body.

    Args:
        max_new_tokens: what the endpoint's own field says; None leaves it to the context.

    Raises:
        BodyError: a field has a wrong type.
        ValueRefused: a value is out of range.
    """
    found = {name: body[name] for name in _KNOWN if name in body}
    for name, given in found.items():
        problem = _type_problem(name, given)
        if problem is not None:
            raise BodyError(f"body: {problem}")
    found["max_new_tokens"] = max_new_tokens
    return _sampling(found, None)


def _type_problem(name: str, value: Any) -> str | None:
    if name not in _KNOWN:
        return f"unknown field {name!r}"
    if value is None or name in _OTHERS:
        return None
    if name in _FLAGS:
        is_good = isinstance(value, bool)
    elif name in _WHOLE:
        is_good = is_whole(value)
    else:
        is_good = isinstance(value, int | float) and not isinstance(value, bool)
    return None if is_good else f"{name} cannot be {value!r}"


def _sampling(value: Json, default_new_tokens: int | None) -> Sampling:
    for name, (least, greatest, includes_least) in _RANGES.items():
        given = value.get(name)
        if given is None:
            continue
        is_above = given >= least if includes_least else given > least
        if not (is_above and given <= greatest):
            bounds = f"at least {least}" if includes_least else f"more than {least}"
            ceiling = "" if math.isinf(greatest) else f" and at most {greatest}"
            raise ValueRefused(f"{name} must be {bounds}{ceiling}, got {given}.")
    maximum = value.get("max_new_tokens")
    minimum = value.get("min_new_tokens") or 0
    if maximum is not None and minimum > maximum:
        raise ValueRefused(f"min_new_tokens must be in [0, max_new_tokens({maximum})].")
    return Sampling(
        max_new_tokens=default_new_tokens if maximum is None else maximum,
        min_new_tokens=minimum,
        ignores_eos=bool(value.get("ignore_eos")),
        num_samples=value.get("n") or 1,
    )
