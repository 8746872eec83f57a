"""Which workers are expected to be equally fast."""

from collections.abc import Mapping
from urllib.parse import quote

from hfx_sgl.types import Role

CLASS_FIELDS = (
    "accelerator", "device", "tp_size", "pp_size", "dp_size", "dtype", "quantization",
    "kv_cache_dtype", "version",
)  # fmt: skip
"""What a server may say of itself that its step times depend on: of `/server_info`, and
`accelerator` of `/v1/loads`."""


def class_key(model_id: str, role: Role, metadata: Mapping[str, object]) -> str:
    """Return what workers of one model, role, device, degree of parallelism and version share.

    A line of `name=value`, the same for the same values whatever else is known of a worker. What it
    did not say of itself is left out, so that two servers that say nothing are taken for alike.
    """
    named: dict[str, object] = {"model": model_id, "role": role.value}
    named |= {name: metadata[name] for name in CLASS_FIELDS if metadata.get(name) is not None}
    return " ".join(f"{name}={quote(str(value), safe='/:.+')}" for name, value in named.items())
