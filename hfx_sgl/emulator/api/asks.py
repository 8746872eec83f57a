"""From the fields that the inference endpoints share to the prompts to be computed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hfx_sgl.emulator import tokens
from hfx_sgl.emulator.api.fields import is_whole
from hfx_sgl.emulator.api.sampling import Sampling
from hfx_sgl.emulator.failures import BodyError, Json, ValueRefused
from hfx_sgl.emulator.output import seed_of
from hfx_sgl.emulator.sequence import Ask, Room

LOWEST_PRIORITY = -(2**31)
"""Of requests that name none, where the engine schedules by priority."""
MAX_SAMPLES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a worker's engine sets to the requests."""

    max_context_tokens: int
    has_priority: bool
    new_rid: Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptText:
    """One prompt of a body."""

    data: bytes
    """Its tokens; may be empty."""
    text: str
    """What `echo` repeats."""
    sampling: Sampling


def make_asks(body: Json, prompts: list[PromptText], limits: Limits) -> list[Ask]:
    """Return one request for each sample of each prompt, those of one prompt beside each other.

    Raises:
        BodyError: a field has a wrong type.
        ValueRefused: a value cannot be served.
    """
    samples = [prompt.sampling.num_samples for prompt in prompts]
    total = sum(samples)
    if total > MAX_SAMPLES:
        raise ValueRefused(f"at most {MAX_SAMPLES} sequences in one request, got {total}.")
    rids = _rids(body, len(prompts), total, limits)
    rooms = _rooms(body, len(prompts))
    lengths = _per_prompt(body, "emulated_output_tokens", len(prompts))
    priority = _priority(body, limits)
    asks: list[Ask] = []
    for at, prompt in enumerate(prompts):
        first = _make_ask(
            prompt,
            rid=rids[len(asks)],
            room=rooms[at],
            asked=lengths[at],
            priority=priority,
            limits=limits,
        )
        asks.append(first)
        others = rids[len(asks) : len(asks) + samples[at] - 1]
        asks += [replace(first, rid=rid) for rid in others]
    return asks


def _make_ask(
    prompt: PromptText,
    *,
    rid: str,
    room: Room | None,
    asked: int | None,
    priority: int,
    limits: Limits,
) -> Ask:
    if not prompt.data:
        # The real server's scheduler ends on it, and the server with the scheduler.
        raise ValueRefused("The prompt is empty.")
    num_prompt_tokens = tokens.count(prompt.data)
    context = limits.max_context_tokens
    if num_prompt_tokens >= context:
        raise ValueRefused(
            f"The input ({num_prompt_tokens} tokens) is longer than the model's context length "
            f"({context} tokens)."
        )
    maximum = prompt.sampling.max_new_tokens
    if maximum is None:
        maximum = context - num_prompt_tokens
    if num_prompt_tokens + maximum > context:
        raise ValueRefused(
            f"Requested token count exceeds the model's maximum context length of {context} "
            f"tokens: {num_prompt_tokens} of the input and {maximum} for the completion."
        )
    if asked is not None and not 1 <= asked <= maximum:
        raise ValueRefused(
            f"emulated_output_tokens must be in [1, max_new_tokens({maximum})], got {asked}."
        )
    known = tokens.prompt_of(prompt.data)
    return Ask(
        rid=rid,
        data=prompt.data,
        prompt=known,
        max_new_tokens=maximum,
        num_output_tokens=prompt.sampling.output_length(seed_of(known), maximum, asked),
        priority=priority,
        room=room,
    )


def _rids(body: Json, num_prompts: int, total: int, limits: Limits) -> list[str]:
    rid = body.get("rid")
    if rid is None or (isinstance(rid, list) and len(rid) != total):
        return [limits.new_rid() for _ in range(total)]
    if isinstance(rid, str):
        return [rid] if num_prompts == total == 1 else [f"{rid}_{at}" for at in range(total)]
    if not isinstance(rid, list) or not all(isinstance(item, str) for item in rid):
        raise BodyError(f"body.rid: must be a string or a list of strings, not {rid!r}")
    if len(set(rid)) < total:
        raise ValueRefused("Duplicate request IDs detected within the request.")
    return rid


def _priority(body: Json, limits: Limits) -> int:
    value = body.get("priority")
    if value is not None and not is_whole(value):
        raise BodyError(f"body.priority: must be a whole number, not {value!r}")
    if not limits.has_priority:
        return 0
    return LOWEST_PRIORITY if value is None else int(value)


def _rooms(body: Json, num_prompts: int) -> list[Room | None]:
    room = body.get("bootstrap_room")
    if room is None:
        return [None] * num_prompts
    numbers = _per_prompt(body, "bootstrap_room", num_prompts)
    if not isinstance(room, list):
        # One number for a batch names the first of consecutive rooms.
        numbers = [room + at for at in range(num_prompts)]
    ports = _per_prompt(body, "bootstrap_port", num_prompts)
    hosts = _hosts(body, num_prompts)
    return [
        None if number is None else Room(number=number, host=host, port=port)
        for number, host, port in zip(numbers, hosts, ports, strict=True)
    ]


def _hosts(body: Json, num_prompts: int) -> list[str | None]:
    value: Any = body.get("bootstrap_host")
    values = value if isinstance(value, list) else [value] * num_prompts
    if len(values) != num_prompts:
        raise ValueRefused(f"bootstrap_host must have {num_prompts} entries, got {len(values)}.")
    if not all(item is None or isinstance(item, str) for item in values):
        raise BodyError(f"body.bootstrap_host: must be a string, not {value!r}")
    return values


def _per_prompt(body: Json, name: str, num_prompts: int) -> list[int | None]:
    """Return a field that is one whole number for all prompts, or a list with one for each."""
    value = body.get(name)
    values = value if isinstance(value, list) else [value] * num_prompts
    if not all(item is None or is_whole(item) for item in values):
        raise BodyError(f"body.{name}: must be a whole number or a list of them, not {value!r}")
    if len(values) != num_prompts:
        raise ValueRefused(f"{name} must have {num_prompts} entries, got {len(values)}.")
    return values
