"""Compares answers of two servers field by field: names, types, and values that are determined."""

import json
from typing import Any, NamedTuple

import aiohttp

REQUEST_TIMEOUT_S = 40.0

DETERMINED = frozenset(
    (
        "object", "model", "role", "finish_reason", "matched_stop", "index", "completion_tokens",
        "reasoning_tokens", "dp_rank", "num_retractions", "type", "code", "param", "retryable",
        "weight_version", "version", "start", "end", "success", "old_role", "new_role",
        "safe_to_restore", "is_generation", "disaggregation_mode", "detail", "max_model_len",
        "mode", "owned_by", "output_token_logprobs_length", "num_running_reqs",
        "num_waiting_reqs", "max_total_num_tokens", "max_running_requests", "token_capacity",
        "status_code", "err_type", "text_offset", "tp_size", "dp_size", "page_size",
        "served_model_name", "follow_bootstrap_room",
    )
)  # fmt: skip
"""Fields whose value does not depend on what a model says or on how fast it is."""

SAME_LENGTH = frozenset(
    (
        "choices", "loads", "data", "output_ids", "output_token_logprobs", "output_top_logprobs",
        "output_token_ids_logprobs", "weight_versions", "decode_moments", "events", "batch",
    )
)  # fmt: skip
"""Lists of which each has as many items as the other; of others only the first are compared."""

FREE_KEYS = frozenset(("top_logprobs",))
"""Objects whose keys are tokens."""


class Reply(NamedTuple):
    """What a server said."""

    status: int
    content_type: str | None
    content: Any
    """Parsed JSON; of an event stream the first and the last event of the first choice; or text."""


async def ask(url: str, method: str, path: str, body: Any) -> Reply:
    """Send one request; a body that is a string goes as it is."""
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    data = body.encode() if isinstance(body, str) else None
    payload = None if data is not None else body
    headers = {"content-type": "application/json"} if data is not None else None
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.request(method, url + path, data=data, json=payload, headers=headers) as response,
    ):
        text = await response.text()
        return Reply(response.status, response.headers.get("content-type"), _content(text))


def _content(text: str) -> Any:
    if text.startswith("data: "):
        events = [event.removeprefix("data: ") for event in text.strip().split("\n\n")]
        done = events.pop() if events[-1] == "[DONE]" else None
        # The choices take turns as the steps have it.
        parsed = [event for event in map(json.loads, events) if _choice(event) == 0]
        return {"events": [parsed[0], parsed[-1]], "done": done}
    try:
        return json.loads(text)
    except ValueError:
        return text


def _choice(event: dict[str, Any]) -> int:
    choices = event.get("choices") or [event]
    index = choices[0].get("index", 0)
    assert isinstance(index, int)
    return index


def differences(real: Any, ours: Any, path: str = "") -> list[str]:
    """Return how two contents differ, one line with its path for each difference."""
    if isinstance(real, dict) and isinstance(ours, dict):
        return _object_differences(real, ours, path)
    if isinstance(real, list) and isinstance(ours, list):
        return _list_differences(real, ours, path)
    name = path.rpartition(".")[2].partition("[")[0]
    if _kind(real) != _kind(ours):
        return [f"{path}: {_kind(real)} {real!r:.60} against {_kind(ours)} {ours!r:.60}"]
    if name in DETERMINED and real != ours:
        return [f"{path}: {real!r:.60} against {ours!r:.60}"]
    return []


def _object_differences(real: dict[str, Any], ours: dict[str, Any], path: str) -> list[str]:
    if any(f".{name}[" in f"{path}[" for name in FREE_KEYS):
        return differences(list(real.values()), list(ours.values()), path + "{}")
    found = [f"{path}.{name}: missing" for name in real if name not in ours]
    found += [f"{path}.{name}: not in the real one" for name in ours if name not in real]
    for name in real:
        if name in ours:
            found += differences(real[name], ours[name], f"{path}.{name}")
    return found


def _list_differences(real: list[Any], ours: list[Any], path: str) -> list[str]:
    name = path.rpartition(".")[2]
    if name in SAME_LENGTH:
        if len(real) != len(ours):
            return [f"{path}: {len(real)} items against {len(ours)}"]
        pairs = list(zip(real, ours, strict=True))
    else:
        pairs = list(zip(real[:1], ours[:1], strict=False))
        if bool(real) != bool(ours):
            return [f"{path}: {len(real)} items against {len(ours)}"]
    found: list[str] = []
    for at, (theirs, mine) in enumerate(pairs):
        found += differences(theirs, mine, f"{path}[{at}]")
    return found


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool | str):
        return type(value).__name__
    return "number" if isinstance(value, int | float) else type(value).__name__
