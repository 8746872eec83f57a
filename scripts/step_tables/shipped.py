"""The profiles that ship with hfx_sgl: where each is looked up, and what goes with the times.

KV bytes per token are 2 (K and V) x layers x KV heads x head size x 2 (bytes of bfloat16), with the
figures of the models' public configurations. KV capacities are estimates of the tokens that fit
beside the weights in 80 GB a device; a real server reports its own.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from step_tables.aic import AIC_VERSION
from step_tables.folder import ProfileFacts

SOURCE = (
    f"aiconfigurator-core {AIC_VERSION} (Apache-2.0), from measured times of SGLang's operators"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """One shipped profile."""

    facts: ProfileFacts
    aic_system: str
    model_name: str
    model_config: Mapping[str, object] | None = None
    """For a model that aiconfigurator does not know by name."""

    def aic_model(self, scratch: Path) -> str:
        """Return what aiconfigurator takes for the model; may write into `scratch`."""
        if self.model_config is None:
            return self.model_name
        folder = scratch / self.model_name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(self.model_config), encoding="utf-8")
        return str(folder)


QWEN25_32B_CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 5120,
    "num_hidden_layers": 64,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "intermediate_size": 27648,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "torch_dtype": "bfloat16",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": False,
}

SHIPPED: dict[str, Shipped] = {
    "qwen3-8b_h100_tp1": Shipped(
        aic_system="h100_sxm",
        model_name="Qwen/Qwen3-8B",
        facts=ProfileFacts(
            model="Qwen/Qwen3-8B",
            device="NVIDIA H100 SXM",
            num_devices=1,
            source=SOURCE,
            kv_capacity_tokens=363_636,
            kv_bytes_per_token=2 * 36 * 8 * 128 * 2,
            max_context_tokens=40_960,
        ),
    ),
    "llama31-8b_a100_tp1": Shipped(
        aic_system="a100_sxm",
        model_name="meta-llama/Meta-Llama-3.1-8B",
        facts=ProfileFacts(
            model="meta-llama/Llama-3.1-8B",
            device="NVIDIA A100 SXM",
            num_devices=1,
            source=SOURCE,
            kv_capacity_tokens=411_539,
            kv_bytes_per_token=2 * 32 * 8 * 128 * 2,
            max_context_tokens=131_072,
        ),
    ),
    "qwen25-32b_h100_tp2": Shipped(
        aic_system="h100_sxm",
        model_name="Qwen2.5-32B-Instruct",
        model_config=QWEN25_32B_CONFIG,
        facts=ProfileFacts(
            model="Qwen/Qwen2.5-32B-Instruct",
            device="NVIDIA H100 SXM",
            num_devices=2,
            source=SOURCE,
            kv_capacity_tokens=283_358,
            kv_bytes_per_token=2 * 64 * 8 * 128 * 2,
            max_context_tokens=32_768,
        ),
    ),
    "qwen3-30b-a3b_h100_tp1": Shipped(
        aic_system="h100_sxm",
        model_name="Qwen/Qwen3-30B-A3B",
        facts=ProfileFacts(
            model="Qwen/Qwen3-30B-A3B",
            device="NVIDIA H100 SXM",
            num_devices=1,
            source=SOURCE,
            kv_capacity_tokens=86_256,
            kv_bytes_per_token=2 * 48 * 4 * 128 * 2,
            max_context_tokens=40_960,
        ),
    ),
}
