"""Objects of a JSON Lines file, and the blocks of prompts that `hash_ids` name."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import orjson

from hfx_sgl.workload.traces.formats import Report

Segments = tuple[tuple[int, int], ...]


def json_rows(
    path: Path, report: Report, *, known: Collection[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and object of each line that is not blank.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                row = orjson.loads(text)
            except orjson.JSONDecodeError as exc:
                report(line, "", f"is not JSON: {exc}")
                continue
            if not isinstance(row, dict):
                report(line, "", "must be an object")
                continue
            unknown = [name for name in row if name not in known]
            for name in unknown:
                report(line, name, "unknown field")
            if not unknown:
                yield line, row


def hashed_segments(
    hash_ids: object, num_tokens: int, block_tokens: int, line: int, report: Report
) -> Segments | None:
    """Return one segment per block, the last one as long as what is left of `num_tokens`."""
    if not isinstance(hash_ids, list) or not all(type(item) is int for item in hash_ids):
        report(line, "hash_ids", "must be a list of whole numbers")
        return None
    if len(hash_ids) != -(-num_tokens // block_tokens):
        report(
            line,
            "hash_ids",
            f"{num_tokens} tokens are {-(-num_tokens // block_tokens)} blocks of {block_tokens}, "
            f"not {len(hash_ids)}",
        )
        return None
    last_tokens = num_tokens - (len(hash_ids) - 1) * block_tokens
    return (*((item, block_tokens) for item in hash_ids[:-1]), (hash_ids[-1], last_tokens))
