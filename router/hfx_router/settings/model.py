"""The one model of all settings. Nothing else in the router knows a default or a bound."""

from typing import Self

from pydantic import model_validator

from hfx_router.settings.fields_backend import BackendFields, StorageFields, TokenizerFields
from hfx_router.settings.fields_connections import ConnectionFields
from hfx_router.settings.fields_discovery import DiscoveryFields
from hfx_router.settings.fields_observability import LoggingFields, MetricsFields, TracingFields
from hfx_router.settings.fields_policy import PolicyFields
from hfx_router.settings.fields_requests import AdmissionFields, RequestFields
from hfx_router.settings.fields_resilience import BreakerFields, HealthFields, RetryFields
from hfx_router.settings.fields_security import JwtFields, KeyFields, TlsFields
from hfx_router.settings.fields_slo import PromiseFields
from hfx_router.settings.fields_workers import PdFields, ServerFields, WorkerFields
from hfx_router.settings.rules import find_problems


class RouterSettings(
    ServerFields,
    WorkerFields,
    PdFields,
    PolicyFields,
    PromiseFields,
    RequestFields,
    AdmissionFields,
    ConnectionFields,
    RetryFields,
    BreakerFields,
    HealthFields,
    LoggingFields,
    MetricsFields,
    KeyFields,
    TracingFields,
    TokenizerFields,
    DiscoveryFields,
    TlsFields,
    JwtFields,
    StorageFields,
    BackendFields,
):
    """Settings of one router process. Field names are the flags in snake_case."""

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        problems = find_problems(self)
        if problems:
            raise ValueError("\n".join(problems))
        return self
