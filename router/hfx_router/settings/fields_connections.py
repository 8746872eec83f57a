"""Timeouts of the sockets to clients and to workers."""

from functools import partial

from hfx_router.settings.field import YEAR_SECS, Group, SettingsFields, setting

_connections = partial(setting, group=Group.CONNECTIONS, gt=0, le=YEAR_SECS)


class ConnectionFields(SettingsFields):
    """How long either side may keep quiet."""

    client_header_timeout_secs: float = _connections(
        30.0, "Seconds from the first byte of a request to the end of its headers."
    )
    client_body_timeout_secs: float = _connections(
        120.0,
        "Seconds without a byte of a body that is being sent; a large upload may take longer in "
        "all.",
    )
    client_idle_timeout_secs: float = _connections(
        75.0, "Seconds that a client connection may stay open between two requests."
    )
    stream_write_timeout_secs: float = _connections(
        300.0,
        "Seconds without progress while a client does not read its answer; the worker is held back "
        "meanwhile.",
    )
    upstream_connect_timeout_secs: float = _connections(
        5.0, "Seconds to connect to a worker; a worker that is up accepts within one."
    )
    upstream_idle_timeout_secs: float = _connections(
        4.0,
        "Seconds that an idle worker connection is kept. SGLang closes it after 5 s, so that a "
        "higher value costs failed requests.",
    )
