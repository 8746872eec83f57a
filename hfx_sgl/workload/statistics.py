"""What a plan looks like: rates, lengths and sharing per class."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from hfx_sgl.prompt import Prompt
from hfx_sgl.workload.planned import PlannedRequest

_HEADER = (
    "class", "requests", "share", "req/s", "gap cv", "prompt mean", "p50", "p99",
    "output mean", "p50", "p99", "shared", "TTFT s", "TPOT ms",
)  # fmt: skip


@dataclass(slots=True)
class ClassStatistics:
    """What has been seen of one class."""

    name: str
    at_s: list[float] = field(default_factory=list)
    prompt_tokens: list[int] = field(default_factory=list)
    output_tokens: list[int] = field(default_factory=list)
    repeated_tokens: int = 0
    """Prompt tokens that an earlier request began with as well."""
    slo_text: tuple[str, str] = ("", "")

    def row(self, num_requests: int, span_s: float) -> tuple[str, ...]:
        """Return the cells of this class's line."""
        total_tokens = sum(self.prompt_tokens)
        return (
            self.name,
            str(len(self.at_s)),
            f"{len(self.at_s) / num_requests:.1%}",
            f"{len(self.at_s) / span_s:.2f}" if span_s else "",
            f"{gap_cv(self.at_s):.2f}",
            *_lengths(self.prompt_tokens),
            *_lengths(self.output_tokens),
            f"{self.repeated_tokens / total_tokens:.0%}",
            *self.slo_text,
        )


def describe(requests: Iterable[PlannedRequest]) -> str:
    """Return a table of the classes of a plan; `shared` is what an endless cache would find."""
    classes: dict[str, ClassStatistics] = {}
    everything = ClassStatistics("all")
    seen: set[int] = set()
    for request in requests:
        name = request.class_name
        repeated_tokens = _note_prefixes(request.prompt, seen)
        for statistics in (classes.setdefault(name, ClassStatistics(name)), everything):
            statistics.at_s.append(request.at_s)
            statistics.prompt_tokens.append(request.prompt.num_tokens)
            statistics.output_tokens.append(request.num_output_tokens)
            statistics.repeated_tokens += repeated_tokens
        classes[name].slo_text = (f"{request.slo.ttft_s:g}", f"{request.slo.tpot_s * 1e3:g}")
    if not everything.at_s:
        return "no requests"
    span_s = everything.at_s[-1]
    lines = [classes[name].row(len(everything.at_s), span_s) for name in sorted(classes)]
    return _table([_HEADER, *lines, everything.row(len(everything.at_s), span_s)])


def gap_cv(at_s: Sequence[float]) -> float:
    """Return the coefficient of variation of the gaps between instants; 0 with fewer than three."""
    gaps = [later - earlier for earlier, later in pairwise(at_s)]
    mean = sum(gaps) / len(gaps) if gaps else 0.0
    if len(gaps) < 2 or not mean:
        return 0.0
    return float((sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5 / mean)


def _note_prefixes(prompt: Prompt, seen: set[int]) -> int:
    """Return how many tokens at the start have been seen; remember the prompt's prefixes."""
    prefix, num_tokens, is_known = 0, 0, True
    for segment_id, tokens in zip(prompt.segment_ids, prompt.segment_tokens, strict=True):
        prefix = hash((prefix, segment_id, tokens))
        is_known = is_known and prefix in seen
        num_tokens += tokens if is_known else 0
        seen.add(prefix)
    return num_tokens


def _lengths(values: list[int]) -> tuple[str, str, str]:
    ordered = sorted(values)
    half, most = (ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99))
    return f"{sum(values) / len(values):.0f}", str(half), str(most)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
