"""A stand-in for SGLang's kernel package on a machine without its compiled CPU kernels.

PyPI carries `sgl_kernel` for CUDA only, yet SGLang imports it by name whenever it runs on a CPU.
This package registers no `torch.ops.sgl_kernel` operators on purpose: SGLang then concludes that
the processor has no AMX kernels and takes its own plain-torch branches everywhere. What is left
to provide is the one helper that every CPU server calls; the other `*_cpu` names that SGLang
imports belong to speculative decoding and Mamba models, and raise when called.
"""

from typing import NoReturn, Protocol

import torch

__version__ = "0.4.10+cpu.stand.in"


class _Unsupported(Protocol):
    def __call__(self, *args: object, **kwargs: object) -> NoReturn: ...


def assign_req_to_token_pool_cpu(
    req_pool_indices: torch.Tensor,
    req_to_token: torch.Tensor,
    start_offset: torch.Tensor,
    end_offset: torch.Tensor,
    out_cache_loc: torch.Tensor,
    pool_len: int | None = None,
) -> None:
    """Write the newly allocated KV slots of each request into its row of the slot table.

    Request `i` owns row `req_pool_indices[i]` and receives the next
    `end_offset[i] - start_offset[i]` entries of `out_cache_loc`. `pool_len` is the table's
    width, which the compiled kernel needs and a tensor knows.
    """
    taken = 0
    rows = zip(req_pool_indices.tolist(), start_offset.tolist(), end_offset.tolist(), strict=True)
    for row, start, end in rows:
        slots = out_cache_loc[taken : taken + end - start]
        req_to_token[row, start:end] = slots.to(req_to_token.dtype)
        taken += end - start


def __getattr__(name: str) -> _Unsupported:
    if not name.endswith("_cpu"):
        raise AttributeError(f"module 'sgl_kernel' (CPU stand-in) has no attribute {name!r}")

    def unsupported(*args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError(f"the CPU stand-in for sgl_kernel does not implement {name}()")

    return unsupported
