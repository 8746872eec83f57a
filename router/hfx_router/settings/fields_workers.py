"""Where the router listens and which workers it starts with."""

from functools import partial

from hfx_router.settings.field import U32_MAX, YEAR_SECS, Arity, Group, SettingsFields, setting
from hfx_router.settings.values import Host, PrefillTargets, WorkerUrls

_server = partial(setting, group=Group.SERVER)
_workers = partial(setting, group=Group.WORKERS)
_pd = partial(setting, group=Group.PD)


class ServerFields(SettingsFields):
    """The listening socket and the process."""

    config: str | None = _server(
        None,
        "YAML file with settings, one `name: value` line each. Flags and variables override it.",
        metavar="FILE",
    )
    host: Host = _server(
        "0.0.0.0",
        "Address to listen on: IPv4, IPv6 (::, ::1) or a host name.",
        metavar="ADDRESS",
    )
    port: int = _server(30000, "Port to listen on; 0 takes a free one.", ge=0, le=65535)
    shutdown_grace_period_secs: int = _server(
        180,
        "After SIGTERM: seconds that requests in flight may take to finish.",
        ge=0,
        le=YEAR_SECS,
    )


class WorkerFields(SettingsFields):
    """Workers of the regular mode, and what holds for workers of every role."""

    worker_urls: WorkerUrls = _workers(
        (),
        "Workers that prefill and decode, http://HOST[:PORT] each, IPv6 in brackets.",
        arity=Arity.ANY,
        metavar="URL",
    )
    dp_aware: bool = _workers(
        False, "Route to the data-parallel ranks of a worker instead of to the whole worker."
    )
    worker_startup_timeout_secs: int = _workers(
        1800,
        "Seconds that a worker may take to become ready after it was added; large models load for "
        "long.",
        ge=1,
        le=YEAR_SECS,
    )
    worker_startup_check_interval: int = _workers(
        30, "Seconds between two looks at a worker that is not ready yet.", ge=1, le=YEAR_SECS
    )
    worker_drain_timeout_secs: float = _workers(
        300.0,
        "Seconds that requests on a worker may take to finish after the worker was removed.",
        ge=0,
        le=YEAR_SECS,
    )
    load_poll_interval_secs: float = _workers(
        1.0,
        "hfx: seconds between two questions to a worker for its loads, from which its speed is "
        "learnt; 0 never asks.",
        ge=0,
        le=3600,
    )
    load_poll_timeout_secs: float = _workers(
        5.0,
        "Seconds to wait for a worker's loads; a busy scheduler answers late.",
        gt=0,
        le=3600,
    )
    abort_timeout_secs: float = _workers(
        5.0,
        "Seconds to wait for a worker to confirm an abort; the client has left by then.",
        gt=0,
        le=3600,
    )


class PdFields(SettingsFields):
    """Prefill/decode disaggregation."""

    pd_disaggregation: bool = _pd(False, "Serve each request with a prefill and a decode worker.")
    prefill: PrefillTargets = _pd(
        (),
        "Prefill worker and its bootstrap port; without a port, or with none, the worker is asked "
        "for it. Repeatable.",
        arity=Arity.REPEATED_SOME,
        metavar="URL [PORT|none]",
    )
    decode: WorkerUrls = _pd((), "Decode worker. Repeatable.", arity=Arity.REPEATED, metavar="URL")
    disable_pair_checks: bool = _pd(
        False,
        "Send requests to any pair of prefill and decode workers: compare nothing that they say of "
        "themselves, and keep no state of the links between them.",
    )
    pair_check_interval_secs: float = _pd(
        60.0,
        "Seconds between two looks at what a worker says of itself, and at the bootstrap port of a "
        "prefill worker, as often as health is checked; 0 looks only when a worker joins, comes "
        "back or has a link that fails.",
        ge=0,
        le=YEAR_SECS,
    )
    pair_check_timeout_secs: float = _pd(
        2.0,
        "Seconds for such a look. Servers answer within 0.1 s when idle; a worker that has come "
        "back gets requests after so long at the latest.",
        gt=0,
        le=3600,
    )
    link_failure_threshold: int = _pd(
        3,
        "Failed KV hand-offs without a success between them that take a pair out of service. One "
        "may be the fault of its request alone.",
        ge=1,
        le=U32_MAX,
    )
    link_cooldown_secs: float = _pd(
        5.0,
        "Seconds until one request may try a pair that is out of service; doubled by each trial "
        "that fails. SGLang's decode workers look after their prefill workers as often.",
        gt=0,
        le=YEAR_SECS,
    )
    link_max_cooldown_secs: float = _pd(
        120.0,
        "The longest such pause. A trial that finds nobody costs its request about 14 s.",
        gt=0,
        le=YEAR_SECS,
    )
