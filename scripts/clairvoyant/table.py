"""The tables of bounds and ratios, and what they assume, as markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import orjson
from clairvoyant.bound import Bound
from clairvoyant.point import PointRuns

ASSUMPTIONS = """\
The bound holds for any scheduler, whatever it knows in advance, because each of its assumptions
lets it do more than the simulated engines can:

- The workers of a pool are one machine with the speed of all of them. It may switch between
  requests at any instant and keep a part of a request (a linear program).
- A prompt takes the least time that the step times allow in any batch; so does an output token, in
  any batch that the limits on running requests and on KV memory allow. Both are linear bounds below
  all step times.
- The prefix caches of a pool are one cache of the size of all its KV memory; prompts under way and
  outputs take no room in it, and its room is looked at every two seconds. Who is kept needs the
  part of its prompt that others share: computed for one request out of those whose time windows
  overlap, or held in the cache since the last such group, or computed by a request that is given
  up, which may do so at any time. What more than 400 requests share is always there.
- With prefill/decode disaggregation a request takes room for its prompt and the engine's reserve
  from before its prompt is computed until its end. Links between workers are shared by nobody.
- A unified worker may put off decoding for as long as the promises allow, whatever its memory.

One thing is ruled out: that a prompt which has been computed is computed once more only to warm a
cache.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One point: its bound, and what each policy attained there."""

    shape: str
    load_factor: float
    bound: Bound
    attained: tuple[tuple[str, float], ...]


def make_row(each: PointRuns, bound: Bound) -> Row:
    """Return the row of a point."""
    attained = []
    for run in each.runs:
        share = run.summary.overall.slo_attainment
        assert share is not None  # the simulator refuses a run without requests
        attained.append((run.info.policy, share))
    return Row(
        shape=each.point.spec.shape,
        load_factor=each.point.load.load_factor,
        bound=bound,
        attained=tuple(attained),
    )


def render(rows: Sequence[Row]) -> str:
    """Return a table for each cluster, seeds' medians, and the assumptions."""
    shapes = dict.fromkeys(row.shape for row in rows)
    tables = [_table([row for row in rows if row.shape == shape]) for shape in shapes]
    return "\n\n".join((*tables, ASSUMPTIONS))


def _table(rows: Sequence[Row]) -> str:
    policies = sorted({policy for row in rows for policy, _ in row.attained})
    loads = sorted({row.load_factor for row in rows})
    head = ["load", "seeds", "bound", *(f"{policy}, of bound" for policy in policies)]
    lines = [f"Cluster {rows[0].shape}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for load_factor in loads:
        here = [row for row in rows if row.load_factor == load_factor]
        cells = [
            f"{load_factor:g}x",
            str(len(here)),
            f"{100 * median(row.bound.attainment for row in here):.1f} %",
            *(_cell(here, policy) for policy in policies),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(rows: Sequence[Row], policy: str) -> str:
    pairs = [
        (share, share / row.bound.attainment)
        for row in rows
        for name, share in row.attained
        if name == policy and row.bound.num_kept
    ]
    if not pairs:
        return "-"
    shares, ratios = zip(*pairs, strict=True)
    return f"{100 * median(shares):.1f} %, {median(ratios):.3f}"


def render_json(rows: Sequence[Row]) -> str:
    """Return the bounds as `bench_scheduler --bounds` reads them."""
    bounds = [
        {
            "cluster": row.shape,
            "load_factor": row.load_factor,
            "attainment": row.bound.attainment,
            "num_requests": row.bound.num_requests,
        }
        for row in rows
    ]
    content = {"bounds": bounds, "assumptions": "those of scripts/clairvoyant_bound --help"}
    return orjson.dumps(content, option=orjson.OPT_INDENT_2).decode() + "\n"
