"""A run on disk: a folder with what was run, each request's outcome, and the workers over time.

run.json         RunInfo
records.jsonl    RequestRecord, one per arrival, in order of arrival
workers.jsonl    WorkerSample, in order of time; only when workers were sampled
summary.json     the summary of the records, per class and overall
"""

import msgspec

INFO_FILE = "run.json"
RECORDS_FILE = "records.jsonl"
WORKERS_FILE = "workers.jsonl"
SUMMARY_FILE = "summary.json"


class RunInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was run, and whether its result may be used."""

    tool: str
    """`sim` or `loadtest`."""
    policy: str
    cluster: str
    """Shape of the cluster as people write it: `4` unified workers, `2P+2D`."""
    profile: str
    """Engine profile; `unknown` for a cluster that is not emulated."""
    workload: str
    load_factor: float
    """Arrival rate as a multiple of the workload's own."""
    seed: int
    duration_s: float
    """How long requests arrived."""
    version: str
    """Of this package, with the commit where it is known."""
    is_valid: bool = True
    problems: tuple[str, ...] = ()
    """Why the run is not valid, and what else a reader has to know."""
    settings: dict[str, str | int | float | bool | None] = {}
    """Everything else that can change the result."""


class WorkerSample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One worker at one instant, by its own account."""

    at_s: float
    worker: str
    role: str
    num_running_reqs: int
    num_waiting_reqs: int
    token_usage: float
    """Share of KV room that requests occupy (0..1)."""
