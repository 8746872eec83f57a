"""SGLang plugin that makes PD disaggregation work on a CPU.

Entry-point group `sglang.srt.plugins`: SGLang loads it in every process of a server. It changes
nothing unless SGLANG_USE_CPU_ENGINE=1.
"""

import os


def apply() -> None:
    """Send KV page indices to the transfer worker as host arrays.

    The prefill scheduler of 0.5.23 stages them in pinned memory behind a CUDA event when the
    sender claims to support that, and Mooncake's sender does. Without the claim SGLang takes
    its plain numpy path, which needs no CUDA.
    """
    if os.environ.get("SGLANG_USE_CPU_ENGINE") != "1":
        return
    from sglang.srt.disaggregation.mooncake import conn

    conn.MooncakeKVSender.supports_host_tensor_indices = False
