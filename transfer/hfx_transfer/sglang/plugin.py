"""An SGLang plugin that lets every server pass its weights on (`sglang.srt.plugins`).

SGLang 0.5.23 can copy weights out of a running server, with three gaps that this closes in the
server's own processes: a server that was copied itself never offers its weights to others, one
that listens on an address of its own tells it to 127.0.0.1, where nobody listens, and host memory
and Ascend devices are registered with Mooncake by way of CUDA's allocator. A server that offers
nothing and copies nothing is left as it was.

Standard library and SGLang only: `scripts/install_sglang_cpu` copies this one file into an
environment that has nothing else of this project.
"""

import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

SGLANG_VERSION = "0.5.23"
"""Whose internals are meant. Another version is left alone: it may have changed what is patched."""

_UTILS = "sglang.srt.model_loader.remote_instance_weight_loader_utils"
_TRANSPORTER = (
    "sglang.srt.model_executor.model_runner_components.remote_instance_weight_transporter"
    ".RemoteInstanceWeightTransporter"
)
_PUBLISH_TIMEOUT_S = 5.0
"""SGLang's own limit for the same call, which never leaves the machine."""

_log = logging.getLogger(__name__)


def apply() -> None:
    """Register the hooks; SGLang calls this in each process before anything is served."""
    found = version("sglang")
    if found != SGLANG_VERSION:
        _log.warning(
            "weights from a peer cannot be passed on: the plugin is for SGLang %s, this is %s",
            SGLANG_VERSION,
            found,
        )
        return
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    HookRegistry.register(
        f"{_UTILS}.register_memory_region_v2", _register_where_it_is, HookType.AROUND
    )
    HookRegistry.register(
        f"{_TRANSPORTER}.maybe_register_and_publish_weight_info", _publish_too, HookType.AROUND
    )
    HookRegistry.register(
        f"{_TRANSPORTER}._register_to_engine_info_bootstrap", _publish_at_home, HookType.AROUND
    )


def _register_where_it_is(original: Callable[..., Any], model: Any, transfer_engine: Any) -> Any:
    """Register weights outside of CUDA one by one, as SGLang does where it has no torch."""
    if all(parameter.is_cuda for parameter in model.parameters()):
        return original(model, transfer_engine)
    from sglang.srt.model_loader import remote_instance_weight_loader_utils

    return remote_instance_weight_loader_utils.register_memory_region_v1(model, transfer_engine)


def _publish_too(original: Callable[[Any], None], transporter: Any) -> None:
    """Publish weights that came from a peer; the loader has registered their memory already."""
    from sglang.srt.runtime_context import get_model

    is_seed = get_model().remote_instance_weight_loader_start_seed_via_transfer_engine
    if is_seed and transporter.engine is not None and transporter.weight_info is not None:
        transporter._register_to_engine_info_bootstrap()
    else:
        original(transporter)


def _publish_at_home(original: Callable[[Any], None], transporter: Any) -> None:
    """Publish where the server listens, unless that is an address that SGLang tries by itself."""
    from sglang.srt.runtime_context import get_model, get_parallel, get_serving
    from sglang.srt.utils.network import NetworkAddress

    host = get_serving().host
    if get_parallel().dist_init_addr or host in ("", "0.0.0.0", "127.0.0.1", "localhost"):
        original(transporter)
        return
    import requests

    base_url = NetworkAddress(
        "::1" if host == "::" else host, get_model().engine_info_bootstrap_port
    ).to_url()
    info = {"session_id": transporter.session_id, "weights_info_dict": transporter.weight_info}
    try:
        requests.put(
            f"{base_url}/register_transfer_engine_info",
            json={"tp_rank": transporter.tp_rank, "transfer_engine_info": info},
            timeout=_PUBLISH_TIMEOUT_S,
        ).raise_for_status()
    except requests.RequestException as exc:
        # As in SGLang: a server that cannot pass its weights on still serves.
        _log.error("rank %d cannot offer its weights to others: %s", transporter.tp_rank, exc)
