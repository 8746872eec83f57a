"""Moves bytes between the memories of processes: weights, KV, and SGLang's own hand-off.

`serve_weights` and `load_weights` are here for short imports, and loaded when they are asked for:
who needs only the names of the hand-off's fields must not pay for the rest.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hfx_transfer.weights import load_weights, serve_weights

__all__ = ["load_weights", "serve_weights"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hfx_transfer import weights

    return getattr(weights, name)
