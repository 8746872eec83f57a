"""Asks a worker whether it is alive and what it is. Decides nothing about traffic."""

from dataclasses import dataclass, replace
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

import aiohttp
from hfx_transfer.sglang.pairs.facts import (
    ROUTE_PATH,
    PairingFacts,
    RouteAnswer,
    RouteFacts,
    RouteNotReady,
    read_route,
    read_server,
)

from hfx_router.workers.ask import Answer, ask, bearer
from hfx_router.workers.worker import WorkerSpec, http_base
from hfx_sgl.types import Role

DEFAULT_BOOTSTRAP_PORT = 8998
"""SGLang's own default of --disaggregation-bootstrap-port."""

MAX_ROUTE_BYTES = 64 * 1024
"""A bootstrap server's facts are a few hundred bytes."""

METADATA_FIELDS: tuple[str, ...] = (
    "model_path", "served_model_name", "tp_size", "dp_size", "disaggregation_mode",
    "model_type", "architectures", "version", "weight_version", "is_generation",
    "enable_priority_scheduling", "schedule_low_priority_values_first", "max_total_num_tokens",
    "device", "dtype", "quantization", "kv_cache_dtype", "pp_size", "kv_events",
)  # fmt: skip
"""What of /server_info and /model_info is kept; the first seven are sglang-router's, the others
from the priorities on are for the scheduler."""

MODES_BY_ROLE: Final = MappingProxyType(
    {Role.REGULAR: "null", Role.PREFILL: "prefill", Role.DECODE: "decode"}
)
"""SGLang's `disaggregation_mode` for each role; without disaggregation it is the string null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFacts:
    """What a worker said about itself; None is something it did not say."""

    metadata: dict[str, object]
    model_id: str | None
    mode: str | None
    dp_size: int
    bootstrap_port: int | None
    pairing: PairingFacts | None = None
    """What decides with whom it can exchange KV; None: it was not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotReady:
    """The worker may become ready: ask again later."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Asking again would not help."""

    reason: str


ProbeOutcome = WorkerFacts | NotReady | Refused


class Prober:
    """Asks workers over one shared session.

    Args:
        health_endpoint: the path that answers 200 when the worker can serve.
        startup_timeout_s: for the health question at registration. SGLang's own /health runs a
            generation and gives up after 20 s, so a shorter wait would miss its answer.
        info_timeout_s: for /server_info and /model_info. /server_info asks the scheduler
            (0.05 to 0.1 s idle) and waits behind a long forward pass.
        route_timeout_s: for the bootstrap server of a prefill worker, which answers from memory.
            None: workers are not asked with whom they can exchange KV.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        health_endpoint: str = "/health",
        startup_timeout_s: float = 20.0,
        info_timeout_s: float = 10.0,
        route_timeout_s: float | None = None,
    ) -> None:
        self._session = session
        self._route_timeout_s = route_timeout_s
        self._health_endpoint = health_endpoint
        self._startup_timeout_s = startup_timeout_s
        self._info_timeout_s = info_timeout_s

    async def is_alive(self, spec: WorkerSpec, timeout_s: float) -> bool:
        """Return whether the health endpoint answered 200 in time."""
        return (await self._get(spec, self._health_endpoint, timeout_s)).is_ok

    async def probe(self, spec: WorkerSpec) -> ProbeOutcome:
        """Ask for health, then for facts; a worker that offers only health is fine."""
        health = await self._get(spec, self._health_endpoint, self._startup_timeout_s)
        if not health.is_ok:
            return NotReady(reason=f"GET {self._health_endpoint}: {health.problem}")
        server = await self._get_info(spec, "/server_info")
        if not isinstance(server, dict):
            return server
        model = await self._get_info(spec, "/model_info")
        if not isinstance(model, dict):
            return model
        facts = read_facts(server, model)
        mismatch = role_mismatch(spec, facts.mode)
        if mismatch is not None:
            return Refused(reason=mismatch)
        if self._route_timeout_s is None or spec.role is Role.REGULAR:
            return facts
        port = spec.bootstrap_port or facts.bootstrap_port or DEFAULT_BOOTSTRAP_PORT
        pairing = await self._pairing(spec, port, merge_info(server, model))
        return pairing if isinstance(pairing, NotReady) else replace(facts, pairing=pairing)

    async def pairing(
        self, spec: WorkerSpec, bootstrap_port: int | None
    ) -> PairingFacts | NotReady | Refused:
        """Ask a worker that is registered once more with whom it can exchange KV."""
        server = await self._get_info(spec, "/server_info")
        if not isinstance(server, dict):
            return server
        model = await self._get_info(spec, "/model_info")
        if not isinstance(model, dict):
            return model
        port = bootstrap_port or DEFAULT_BOOTSTRAP_PORT
        return await self._pairing(spec, port, merge_info(server, model))

    async def _pairing(
        self, spec: WorkerSpec, bootstrap_port: int, info: dict[str, object]
    ) -> PairingFacts | NotReady:
        server = read_server(info)
        if spec.role is not Role.PREFILL:
            return PairingFacts(server=server)
        route = await self._route(spec, bootstrap_port)
        if isinstance(route, RouteFacts):
            return PairingFacts(server=server, route=route)
        if isinstance(route, RouteNotReady):
            return NotReady(reason=f"bootstrap server at port {bootstrap_port}: {route.reason}")
        return PairingFacts(server=server, route_problem=route.reason, is_met=route.has_answered)

    async def _route(self, spec: WorkerSpec, bootstrap_port: int) -> RouteAnswer:
        assert self._route_timeout_s is not None
        answer = await ask(
            self._session,
            "GET",
            f"{http_base(spec.url, bootstrap_port)}{ROUTE_PATH}",
            timeout_s=self._route_timeout_s,
            max_bytes=MAX_ROUTE_BYTES,
        )
        return read_route(answer.status, answer.body, answer.problem)

    async def _get(self, spec: WorkerSpec, path: str, timeout_s: float) -> Answer:
        return await ask(
            self._session,
            "GET",
            f"{http_base(spec.url)}{path}",
            timeout_s=timeout_s,
            authorization=bearer(spec.api_key),
        )

    async def _get_info(
        self, spec: WorkerSpec, path: str
    ) -> dict[str, object] | NotReady | Refused:
        """Return the object at `path`, empty when the worker does not offer one."""
        answer = await self._get(spec, path, self._info_timeout_s)
        if answer.status == HTTPStatus.NOT_FOUND:
            # SGLang before 0.5 knows only the names with get_.
            answer = await self._get(spec, path.replace("/", "/get_", 1), self._info_timeout_s)
        match answer.status:
            case HTTPStatus.OK:
                return answer.json_object() or {}
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                return Refused(
                    reason=f"GET {path}: {answer.problem}; the worker wants another api_key"
                )
            case None:
                return NotReady(reason=f"GET {path}: {answer.problem}")
            case status if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                return NotReady(reason=f"GET {path}: {answer.problem}")
            case _:
                return {}


def merge_info(server: dict[str, object], model: dict[str, object]) -> dict[str, object]:
    """Merge the two answers. /model_info wins: it follows a role flip and a weight update."""
    return server | {key: value for key, value in model.items() if value is not None}


def read_facts(server: dict[str, object], model: dict[str, object]) -> WorkerFacts:
    """Return what the two answers say together."""
    merged = merge_info(server, model)
    metadata = {key: merged[key] for key in METADATA_FIELDS if merged.get(key) is not None}
    mode = merged.get("disaggregation_mode")
    model_id = merged.get("served_model_name") or merged.get("model_path")
    dp_size = merged.get("dp_size")
    bootstrap_port = merged.get("disaggregation_bootstrap_port")
    return WorkerFacts(
        metadata=metadata,
        model_id=model_id if isinstance(model_id, str) else None,
        mode=mode if isinstance(mode, str) else None,
        dp_size=dp_size if isinstance(dp_size, int) and dp_size > 1 else 1,
        bootstrap_port=bootstrap_port if isinstance(bootstrap_port, int) else None,
    )


def role_mismatch(spec: WorkerSpec, mode: str | None) -> str | None:
    """Return why a server in `mode` cannot serve as `spec.role`; None when it can.

    A server that does not name its mode is taken at the operator's word.
    """
    expected = MODES_BY_ROLE[spec.role]
    if mode is None or mode == expected:
        return None
    return (
        f"{spec.url} was given as a {spec.role} worker, but the server runs with "
        f"--disaggregation-mode {mode} (a {spec.role} worker needs {expected})"
    )
