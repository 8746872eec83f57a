"""JSON Lines of AIPerf (`single_turn`, `mooncake_trace`) and SGLang's `custom` and `openai`.

Rows of one `session_id` are turns. With `input_length` or `text_input` a turn adds to what was
said before it; `messages`, `text` and `conversations` say everything themselves.
"""

from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from hfx_sgl.workload.traces.aiperf_prompt import PROMPT_FIELDS, output_tokens_of, prompt_of
from hfx_sgl.workload.traces.fields import Ascending, finite_number
from hfx_sgl.workload.traces.formats import ReadOptions, Report, TraceRow
from hfx_sgl.workload.traces.json_rows import json_rows

OTHER_FIELDS = (
    "timestamp", "delay", "session_id", "output_length", "max_tokens", "max_completion_tokens",
    "hash_ids", "type", "role", "extra", "tools", "model", "stream", "temperature", "top_p", "id",
)  # fmt: skip
_GROWING_FIELDS = ("input_length", "text_input")


def read_aiperf(path: Path, report: Report, options: ReadOptions) -> Iterator[TraceRow]:
    """Yield the rows of a file in order of time; holds them all, for turns stand anywhere in it.

    Either every row has a `timestamp` (ms), or a `delay` (ms) after the arrival of the turn before
    it, or none has, and the rows keep their order. Replay is open-loop: a delay counts from the
    turn's arrival, where AIPerf counts from its answer.
    """
    clock = _Clock(report)
    rows: list[TraceRow] = []
    for line, row in json_rows(path, report, known=(*PROMPT_FIELDS, *OTHER_FIELDS)):
        session = row.get("session_id")
        if session is not None and not isinstance(session, str | int):
            report(line, "session_id", "must be text")
            continue
        parsed = _row(line, row, None if session is None else str(session), report, options)
        is_timed = clock.read(line, row, session)
        if parsed is not None and is_timed:
            rows.append(replace(parsed, at_s=clock.at_s))
    timed = [row for row in rows if row.at_s is not None]
    if timed and len(timed) < len(rows):
        line = next(row.line for row in rows if row.at_s is None)
        report(line, "timestamp", "is missing, though other rows have one")
        return
    yield from sorted(rows, key=attrgetter("at_s")) if timed else rows


def _row(
    line: int, row: dict[str, Any], session: str | None, report: Report, options: ReadOptions
) -> TraceRow | None:
    prompt = prompt_of(line, row, report, options.block_tokens)
    num_output_tokens = output_tokens_of(line, row, report)
    if prompt is None or num_output_tokens is None:
        return None
    segments, own_tokens = prompt
    return TraceRow(
        line=line,
        at_s=None,
        segments=segments,
        own_tokens=own_tokens,
        num_output_tokens=num_output_tokens,
        session=session,
        grows=session is not None and any(name in row for name in _GROWING_FIELDS),
    )


class _Clock:
    """Finds out when each row arrives."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._order = Ascending("timestamp", report)
        self._turn_at_s: dict[str | int, float] = {}
        self.at_s: float | None = None
        """When the row last read arrives; None when it does not say."""

    def read(self, line: int, row: dict[str, Any], session: str | int | None) -> bool:
        """Return whether the row's timing makes sense; `at_s` has it then."""
        self.at_s = None
        if row.get("timestamp") is not None:
            at_ms = finite_number(row["timestamp"], line, "timestamp", self._report)
            if at_ms is None or not self._order.check(line, at_ms):
                return False
            self.at_s = at_ms / 1000
        elif row.get("delay") is not None:
            delay_ms = finite_number(row["delay"], line, "delay", self._report)
            if delay_ms is None:
                return False
            if delay_ms < 0:
                self._report(line, "delay", f"must not be negative ({row['delay']})")
                return False
            before_s = None if session is None else self._turn_at_s.get(session)
            if before_s is None:
                self._report(line, "delay", "needs a turn before it, with a timestamp")
                return False
            self.at_s = before_s + delay_ms / 1000
        if session is not None and self.at_s is not None:
            self._turn_at_s[session] = self.at_s
        return True
