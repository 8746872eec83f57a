"""Reads command-line flags that are passed through, as far as the plan depends on them. Pure."""

from collections.abc import Iterable, Sequence

PLANNED_SERVER_FLAGS = frozenset(
    (
        "--model-path", "--model", "--served-model-name", "--host", "--port", "--nccl-port",
        "--device", "--tp-size", "--tensor-parallel-size", "--base-gpu-id", "--disaggregation-mode",
        "--disaggregation-transfer-backend", "--disaggregation-bootstrap-port",
        "--disaggregation-ib-device",
    )
)  # fmt: skip
"""Flags of a server that follow from the specification; a second value would contradict it."""

PLANNED_SEED_FLAGS = frozenset(
    (
        "--remote-instance-weight-loader-start-seed-via-transfer-engine",
        "--engine-info-bootstrap-port",
    )
)
"""The same for a server that offers its weights to others."""

PLANNED_ROUTER_FLAGS = frozenset(
    (
        "--host", "--port", "--prometheus-host", "--prometheus-port", "--worker-urls",
        "--pd-disaggregation", "--prefill", "--decode",
    )
)  # fmt: skip
"""The same for the router."""


def planned_flags_in(args: Iterable[str], planned: frozenset[str]) -> list[str]:
    """Return the flags among `args` that only the plan may set, in order."""
    names = (arg.partition("=")[0] for arg in args)
    return [name for name in names if name in planned]


def devices_needed(tp_size: int, args: Sequence[str]) -> int:
    """Return how many accelerators one server takes: tensor x pipeline x data parallelism.

    Data parallelism within attention shares the tensor-parallel devices and adds none. A size
    that is not a number counts as 1: SGLang says better than we could what is wrong with it.
    """
    pipeline = _last_int(args, ("--pp-size", "--pipeline-parallel-size"))
    data = _last_int(args, ("--dp-size", "--data-parallel-size"))
    if "--enable-dp-attention" in args:
        data = 1
    return tp_size * pipeline * data


def _last_int(args: Sequence[str], names: tuple[str, ...]) -> int:
    value = "1"
    for index, arg in enumerate(args):
        name, equals, attached = arg.partition("=")
        if name in names:
            value = attached if equals else "".join(args[index + 1 : index + 2])
    return int(value) if value.isdecimal() else 1
