"""The bodies of POST and PUT /workers: parses them and refuses what is not understood."""

from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hfx_router.workers.worker import HealthOverrides, WorkerSpec, split_worker_url
from hfx_sgl.errors import ConfigError, InvalidRequestError, PayloadTooLargeError
from hfx_sgl.types import Role

MAX_BODY_BYTES = 64 * 1024
"""A worker's description takes a few hundred bytes, with many labels a few thousand."""

ConfigT = TypeVar("ConfigT", bound=BaseModel)

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[int, Field(ge=1, le=86400)]
Threshold = Annotated[int, Field(ge=1, le=1000)]
Priority = Annotated[int, Field(ge=0, le=2**32 - 1)]
Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class UpdateBody(BaseModel):
    """What PUT may change; a field that is absent or null stays."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    priority: Priority | None = None
    cost: Cost | None = None
    labels: dict[str, str] | None = None
    api_key: str | None = None
    health_check_interval_secs: Seconds | None = None
    health_check_timeout_secs: Seconds | None = None
    health_failure_threshold: Threshold | None = None
    health_success_threshold: Threshold | None = None
    disable_health_check: bool | None = None

    def apply(self, spec: WorkerSpec) -> WorkerSpec:
        """Return `spec` with the given fields replaced."""
        health = _given(
            interval_s=self.health_check_interval_secs,
            timeout_s=self.health_check_timeout_secs,
            failure_threshold=self.health_failure_threshold,
            success_threshold=self.health_success_threshold,
        )
        changes = _given(
            priority=self.priority,
            cost=self.cost,
            labels=self.labels,
            api_key=self.api_key,
            disable_health_check=self.disable_health_check,
        )
        return replace(spec, **changes, health=replace(spec.health, **health))


class AddBody(UpdateBody):
    """What POST takes."""

    url: str
    worker_type: Literal["regular", "prefill", "decode"] = "regular"
    bootstrap_port: Port | None = None
    model_id: str | None = None
    dp_aware: bool | None = None
    runtime: Literal["sglang"] | None = None
    runtime_type: Literal["sglang"] | None = None
    # Taken and without effect: they describe what only gRPC workers and a router that
    # tokenizes need, and launch scripts send them to every worker.
    tokenizer_path: str | None = None
    reasoning_parser: str | None = None
    tool_parser: str | None = None
    chat_template: str | None = None
    max_connection_attempts: int | None = None

    def spec(self, *, is_pd: bool, is_dp_aware: bool) -> WorkerSpec:
        """Return the worker to register.

        Raises:
            InvalidRequestError: url or worker_type do not fit this router.
        """
        try:
            split_worker_url(self.url)
        except ConfigError as exc:
            raise InvalidRequestError(str(exc), param="url") from exc
        role = Role(self.worker_type)
        if is_pd is (role is Role.REGULAR):
            expected = "prefill or decode" if is_pd else "regular"
            raise InvalidRequestError(
                f"worker_type: this router needs {expected} workers, not {role}",
                param="worker_type",
            )
        return self.apply(
            WorkerSpec(
                url=self.url,
                role=role,
                bootstrap_port=self.bootstrap_port,
                model_id=self.model_id,
                dp_aware=is_dp_aware if self.dp_aware is None else self.dp_aware,
                health=HealthOverrides(),
            )
        )

    @property
    def ignored(self) -> list[str]:
        """The names of the given fields that have no effect."""
        names = ("tokenizer_path", "reasoning_parser", "tool_parser", "chat_template",
                 "max_connection_attempts")  # fmt: skip
        return [name for name in names if getattr(self, name) is not None]


async def read_body(request: Request, model: type[ConfigT]) -> ConfigT:
    """Return the request's JSON body as `model`.

    Raises:
        InvalidRequestError: it is not such an object; the error names the field.
        PayloadTooLargeError: it is longer than any honest one.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise PayloadTooLargeError(f"the body exceeds {MAX_BODY_BYTES} bytes")
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        message = f"{name}: {first['msg']}" if name else first["msg"]
        raise InvalidRequestError(message, param=name or None) from exc


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
