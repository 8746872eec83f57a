"""What two servers say of themselves that decides whether they can exchange KV.

Reads answers, asks nobody. `None` always means that the server does not say, as older ones do not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

ROUTE_PATH = "/route?prefill_dp_rank=-1&prefill_cp_rank=-1&target_tp_rank=-1&target_pp_rank=-1"
"""Asks a bootstrap server for the pool's facts, as a decode worker does at its first contact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteFacts:
    """What a prefill worker's bootstrap server tells every decode worker."""

    attn_tp_size: int | None = None
    attn_cp_size: int | None = None
    pp_size: int | None = None
    page_size: int | None = None
    kv_cache_dtype: str | None = None
    allocation_policy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What a server says at `/server_info` and `/model_info`."""

    served_model_name: str | None = None
    model_path: str | None = None
    model_type: str | None = None
    architectures: tuple[str, ...] | None = None
    weight_version: str | None = None
    version: str | None = None
    transfer_backend: str | None = None
    allocation_policy: str | None = None
    page_size: int | None = None
    kv_cache_dtype: str | None = None
    """As configured: `auto` leaves it to the checkpoint."""
    tp_size: int | None = None
    attn_dp_size: int | None = None
    """Data-parallel attention groups within the tensor-parallel ranks."""
    attn_cp_size: int | None = None
    pp_size: int | None = None
    dcp_size: int | None = None

    @property
    def attn_tp_size(self) -> int | None:
        """Ranks that share the KV heads of one request."""
        if self.tp_size is None:
            return None
        return self.tp_size // (self.attn_dp_size or 1) // (self.attn_cp_size or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingFacts:
    """All that is known of one worker's side of its pairs."""

    server: ServerFacts
    route: RouteFacts | None = None
    """None for decode workers, and where the bootstrap server does not tell."""
    route_problem: str = ""
    """Why it does not, for people; empty when it does or was not to be asked."""
    is_met: bool = True
    """Whether somebody answered there, be it something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteNotReady:
    """The bootstrap server is there; not all ranks of its prefill server are registered yet."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteUnknown:
    """Nobody told: an older server, another port, or a network that the router is not part of."""

    reason: str
    has_answered: bool


RouteAnswer = RouteFacts | RouteNotReady | RouteUnknown


def read_server(info: Mapping[str, object]) -> ServerFacts:
    """Return the facts among the members of `/server_info` and `/model_info` together."""
    has_dp_attention = info.get("enable_dp_attention") is True
    dp_size = _count(info, "dp_size") if has_dp_attention else None
    return ServerFacts(
        served_model_name=_text(info, "served_model_name"),
        model_path=_text(info, "model_path"),
        model_type=_text(info, "model_type"),
        architectures=_texts(info, "architectures"),
        weight_version=_text(info, "weight_version"),
        version=_text(info, "version"),
        transfer_backend=_text(info, "disaggregation_transfer_backend"),
        allocation_policy=_text(info, "disaggregation_decode_allocation_policy"),
        page_size=_count(info, "page_size"),
        kv_cache_dtype=_text(info, "kv_cache_dtype"),
        tp_size=_count(info, "tp_size"),
        attn_dp_size=_count(info, "attn_dp_size") or dp_size,
        attn_cp_size=_count(info, "attn_cp_size"),
        pp_size=_count(info, "pp_size"),
        dcp_size=_count(info, "dcp_size"),
    )


def read_route(status: int | None, body: bytes, problem: str) -> RouteAnswer:
    """Return what the answer to `ROUTE_PATH` says.

    Args:
        status: its HTTP status; None when there was no answer.
        body: what it holds.
        problem: why there was no answer, or what else is wrong with it.
    """
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return RouteNotReady(reason=problem)
    if status != HTTPStatus.OK:
        return RouteUnknown(reason=problem, has_answered=status is not None)
    try:
        info = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        return RouteUnknown(reason=f"the answer is no JSON object: {exc}", has_answered=True)
    return RouteFacts(
        attn_tp_size=_count(info, "attn_tp_size"),
        attn_cp_size=_count(info, "attn_cp_size"),
        pp_size=_count(info, "pp_size"),
        page_size=_count(info, "page_size"),
        kv_cache_dtype=_text(info, "kv_cache_dtype"),
        allocation_policy=_text(info, "decode_allocation_policy"),
    )


def _count(info: Mapping[str, object], name: str) -> int | None:
    value = info.get(name)
    return value if type(value) is int and value > 0 else None


def _text(info: Mapping[str, object], name: str) -> str | None:
    value = info.get(name)
    return value if isinstance(value, str) and value else None


def _texts(info: Mapping[str, object], name: str) -> tuple[str, ...] | None:
    value = info.get(name)
    if not isinstance(value, list) or not value:
        return None
    return tuple(item for item in value if isinstance(item, str))
