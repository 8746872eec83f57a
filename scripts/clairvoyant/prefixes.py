"""Which parts of prompts several requests share, as groups over a whole trace."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from clairvoyant.program import Floats

from hfx_sgl.prompt import Prompt

MAX_MEMBERS = 400
"""What more requests share than this is taken to be cached always and everywhere."""


@dataclass(slots=True, kw_only=True)
class SharedPart:
    """Consecutive tokens at one place of the prompts of several requests, all before it equal."""

    num_tokens: int
    members: list[int]
    """Requests in order of arrival, at least two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The shared parts of a trace."""

    parts: tuple[SharedPart, ...]
    """Those of up to `MAX_MEMBERS` requests."""
    num_own_tokens: tuple[int, ...]
    """Of each request: tokens that no other has."""
    num_tracked_tokens: tuple[int, ...]
    """Of each request: tokens of `parts`."""


@dataclass(slots=True)
class _Node:
    num_tokens: int
    members: list[int] = field(default_factory=list)
    children: dict[tuple[int, int], "_Node"] = field(default_factory=dict)


def shared_parts(prompts: Sequence[Prompt]) -> Shared:
    """Return what the prompts share, each part as long as its members stay the same."""
    root = _Node(0)
    for index, prompt in enumerate(prompts):
        node = root
        for key in zip(prompt.segment_ids, prompt.segment_tokens, strict=True):
            child = node.children.get(key)
            if child is None:
                child = node.children[key] = _Node(key[1])
            child.members.append(index)
            node = child
    parts: list[SharedPart] = []
    num_shared = [0] * len(prompts)
    num_tracked = [0] * len(prompts)
    stack = list(root.children.values())
    while stack:
        node = stack.pop()
        num_tokens = node.num_tokens
        while len(node.children) == 1:
            child = next(iter(node.children.values()))
            if len(child.members) != len(node.members):
                break
            num_tokens += child.num_tokens
            node = child
        if len(node.members) < 2:
            continue
        stack += node.children.values()
        is_tracked = len(node.members) <= MAX_MEMBERS
        for member in node.members:
            num_shared[member] += num_tokens
            num_tracked[member] += num_tokens * is_tracked
        if is_tracked:
            parts.append(SharedPart(num_tokens=num_tokens, members=node.members))
    num_own = [prompt.num_tokens - num for prompt, num in zip(prompts, num_shared, strict=True)]
    return Shared(
        parts=tuple(parts), num_own_tokens=tuple(num_own), num_tracked_tokens=tuple(num_tracked)
    )


def exclusive_tokens(shared: Shared, begins_s: Floats, ends_s: Floats) -> Floats:
    """Return how many tokens of room each request takes up beside any others.

    Between these instants a request may be under way. What several of those share that may be at
    the same time is divided among them, so that for any set of requests that are, the sum is no
    more than the room that they take up together.
    """
    tokens = np.array(shared.num_own_tokens, dtype=np.float64)
    for part in shared.parts:
        members = np.array(part.members)
        begins, ends = begins_s[members], ends_s[members]
        # How many are under way at each begin: that is where there are most.
        at_begins = (begins[:, None] >= begins) & (begins[:, None] <= ends)
        num_at_begins = at_begins.sum(axis=1)
        during = (begins >= begins[:, None]) & (begins <= ends[:, None])
        most = np.where(during, num_at_begins, 0).max(axis=1)
        tokens[members] += part.num_tokens / most
    return tokens
