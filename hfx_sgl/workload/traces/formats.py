"""The trace formats that can be read, and what one row of any of them says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

Report = Callable[[int, str, str], None]
"""Takes note of a problem: line, field, message. The row is skipped."""


class TraceFormat(StrEnum):
    """A format by name; `auto` looks at the first line."""

    AUTO = "auto"
    AZURE = "azure"
    """Azure LLM inference 2023: CSV with TIMESTAMP, ContextTokens, GeneratedTokens."""
    BURSTGPT = "burstgpt"
    """BurstGPT: CSV with Timestamp, Request tokens, Response tokens, ..."""
    MOONCAKE = "mooncake"
    """Mooncake: JSONL with timestamp, input_length, output_length, hash_ids."""
    AIPERF = "aiperf"
    """JSONL of AIPerf and of SGLang's benchmark: lengths or texts, sessions, delays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRow:
    """One recorded request. Segments are what it adds to its session, if it has one."""

    line: int
    at_s: float | None
    """On the trace's own clock; None when the trace does not say."""
    segments: tuple[tuple[int, int], ...]
    """Number and length of each segment whose text other rows may share."""
    own_tokens: int
    """Length of what follows them and is the row's own; may be 0."""
    num_output_tokens: int
    session: str | None = None
    grows: bool = False
    """Whether the prompt begins with the session's earlier prompts and answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What a reader has to know besides the file."""

    block_tokens: int = 512
    """Tokens that one entry of `hash_ids` stands for."""


Reader = Callable[[Path, Report, ReadOptions], Iterator[TraceRow]]
"""Yields the rows of a file that exists, in order of time."""
