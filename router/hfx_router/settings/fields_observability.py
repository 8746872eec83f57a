"""Logs, metrics and traces."""

from functools import partial
from typing import Literal

from hfx_router.settings.field import Arity, Group, SettingsFields, Status, setting
from hfx_router.settings.values import Buckets, Directory, Host

_logging = partial(setting, group=Group.LOGGING)
_metrics = partial(setting, group=Group.METRICS)
_tracing = partial(
    setting,
    group=Group.TRACING,
    status=Status.UNBACKED,
    advice="no spans are exported; traceparent and tracestate reach the workers all the same",
)


class LoggingFields(SettingsFields):
    """Where log lines go, and how many."""

    log_dir: Directory | None = _logging(
        None, "Directory for log files, besides the console.", metavar="DIR"
    )
    log_level: Literal["debug", "info", "warn", "error"] = _logging(
        "info", "Least severity that is logged."
    )
    log_json: bool = _logging(False, "One JSON object per log line.")


class MetricsFields(SettingsFields):
    """The Prometheus endpoint, on a port of its own."""

    prometheus_port: int = _metrics(
        29000, "Port that serves /metrics; 0 takes a free one.", ge=0, le=65535
    )
    prometheus_host: Host = _metrics(
        "0.0.0.0",
        "Address that serves /metrics: IPv4, IPv6 or a host name.",
        metavar="ADDRESS",
    )
    prometheus_duration_buckets: Buckets = _metrics(
        None,
        "Bounds of the duration histograms in seconds, ascending; unset for 1 ms to 240 s.",
        arity=Arity.SOME,
        metavar="SECONDS",
    )
    disable_prometheus: bool = _metrics(False, "Do not serve /metrics.")


class TracingFields(SettingsFields):
    """OpenTelemetry."""

    enable_trace: bool = _tracing(False, "Export OpenTelemetry spans.")
    otlp_traces_endpoint: str = _tracing(
        "localhost:4317", "OpenTelemetry collector for --enable-trace.", metavar="HOST:PORT"
    )
