"""What a running server says about its weights: the answers of SGLang 0.5.23, read strictly. Pure.

Raises `TransferError` (protocol) for whatever is not as it should be: half of an answer must
not become a plan.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from hfx_sgl.errors import TransferError, TransferFault
from hfx_sgl.types import Role
from hfx_transfer.sglang.weights.spec import layout_of

_T = TypeVar("_T")

_ROLES = {"null": Role.REGULAR, "prefill": Role.PREFILL, "decode": Role.DECODE}


@dataclass(frozen=True, slots=True, kw_only=True)
class RankWeights:
    """Where one tensor-parallel rank holds its weights."""

    session: str
    """`host:port` of its Mooncake engine."""
    sizes_bytes: Mapping[str, int]
    """By name of the tensor."""

    @property
    def size_bytes(self) -> int:
        """Everything that this rank holds."""
        return sum(self.sizes_bytes.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """`/model_info`: which weights it holds."""

    model_path: str
    served_model_name: str
    weight_version: str
    load_format: str
    role: Role
    architectures: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """`/server_info`: which SGLang it is, and how it was asked to lay the weights out."""

    version: str
    tp_size: int
    device: str
    layout: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`/v1/loads`, over all data-parallel ranks."""

    num_requests: int
    """Running and waiting."""
    num_tokens: int
    """Whose KV it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """A server that could give its weights away, as far as it alone is asked."""

    url: str
    identity: Identity
    build: Build
    ranks: tuple[RankWeights, ...]
    load: Load

    @property
    def size_bytes(self) -> int:
        """The weights of all ranks."""
        return sum(rank.size_bytes for rank in self.ranks)


def parse_identity(answer: Any) -> Identity:
    """Read `/model_info`."""
    return _strictly("/model_info", answer, _identity)


def parse_build(answer: Any) -> Build:
    """Read `/server_info`."""
    return _strictly("/server_info", answer, _build)


def parse_rank(answer: Any) -> RankWeights:
    """Read `/remote_instance_transfer_engine_info`."""
    return _strictly("/remote_instance_transfer_engine_info", answer, _rank)


def parse_load(answer: Any) -> Load:
    """Read `/v1/loads`."""
    return _strictly("/v1/loads", answer, _load)


def _strictly(path: str, answer: Any, read: Callable[[Any], _T]) -> _T:
    try:
        return read(answer)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as exc:
        raise TransferError(
            f"{path} is answered with something else than expected ({exc!r})",
            fault=TransferFault.PROTOCOL,
        ) from exc


def _identity(answer: Any) -> Identity:
    return Identity(
        model_path=_text(answer["model_path"]),
        served_model_name=_text(answer["served_model_name"]),
        weight_version=_text(answer["weight_version"]),
        load_format=_text(answer["load_format"]),
        role=_ROLES[answer["disaggregation_mode"]],
        architectures=tuple(answer.get("architectures") or ()),
    )


def _build(answer: Any) -> Build:
    # What was asked for, since what SGLang made of it differs from flags that leave it open.
    command = answer.get("launch_command")
    args = shlex.split(command) if isinstance(command, str) else _resolved_args(answer)
    return Build(
        version=_text(answer["version"]),
        tp_size=int(answer["tp_size"]),
        device=_text(answer["device"]),
        layout=layout_of(args),
    )


def _resolved_args(answer: Any) -> list[str]:
    sizes = [f"--{name}-size={answer[f'{name}_size']}" for name in ("tp", "pp", "ep")]
    return [*sizes, f"--dtype={answer['dtype']}"]


def _rank(answer: Any) -> RankWeights:
    session, tensors = answer["remote_instance_transfer_engine_info"]
    sizes = {name: _tensor_bytes(name, *where) for name, where in tensors.items()}
    if not sizes:
        raise ValueError("no tensors")
    host, colon, port = _text(session).rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise ValueError(f"session {session!r}")
    return RankWeights(session=session, sizes_bytes=sizes)


def _tensor_bytes(name: str, address: int, num_elements: int, element_bytes: int) -> int:
    if min(address, num_elements, element_bytes) <= 0:
        raise ValueError(f"{name} at {address}, {num_elements} x {element_bytes} bytes")
    return num_elements * element_bytes


def _load(answer: Any) -> Load:
    loads = answer["loads"]
    return Load(
        num_requests=sum(int(load["num_running_reqs"]) for load in loads)
        + sum(int(load["num_waiting_reqs"]) for load in loads),
        num_tokens=sum(int(load["num_used_tokens"]) for load in loads),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
