"""A transformer small enough for tests, with grouped heads, rotary positions and paged KV.

Its weights are random and the same for the same seed. It knows nothing of transfers: whoever runs
it says in which pages a sequence lies and hears of each layer as soon as its KV is written.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Kv = list[tuple[torch.Tensor, torch.Tensor]]
"""By layer: keys and values, each (pages, tokens of a page, heads, head size)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyShape:
    num_layers: int = 3
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 8
    vocab_size: int = 199
    hidden_dim: int = 48


SHAPE = TinyShape()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    output: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor


class TinyTransformer:
    """Greedy decoding, one sequence at a time."""

    def __init__(self, dtype: torch.dtype, *, seed: int = 5, shape: TinyShape = SHAPE) -> None:
        self.shape = shape
        self.dtype = dtype
        generator = torch.Generator().manual_seed(seed)

        def weights(*dims: int) -> torch.Tensor:
            values = torch.randn(*dims, generator=generator) * 1.5 / math.sqrt(dims[0])
            return values.to(dtype)

        width, kv_width = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
        hidden = shape.hidden_dim
        self._embedding = weights(shape.vocab_size, hidden) * math.sqrt(shape.vocab_size)
        self._layers = [
            _Layer(
                query=weights(hidden, width),
                key=weights(hidden, kv_width),
                value=weights(hidden, kv_width),
                output=weights(width, hidden),
                up=weights(hidden, 2 * hidden),
                down=weights(2 * hidden, hidden),
            )
            for _ in range(shape.num_layers)
        ]
        self._head = weights(hidden, shape.vocab_size)

    def forward(
        self,
        tokens: Sequence[int],
        kv: Kv,
        pages: Sequence[int],
        *,
        first_token: int,
        on_layer: Callable[[int], None] | None = None,
    ) -> int:
        """Compute some tokens after `first_token` others; return the most likely next one.

        Args:
            on_layer: called with each layer whose KV has been written.
        """
        positions = torch.arange(first_token, first_token + len(tokens))
        page_tokens = kv[0][0].shape[1]
        slots = torch.tensor([
            pages[at // page_tokens] * page_tokens + at % page_tokens
            for at in range(first_token + len(tokens))
        ])  # fmt: skip
        with torch.inference_mode():
            x = self._embedding[torch.tensor(tokens)]
            for number, layer in enumerate(self._layers):
                heads = self._attend(layer, _norm(x), kv[number], slots, positions)
                if on_layer is not None:
                    on_layer(number)
                x = x + heads @ layer.output
                x = x + torch.nn.functional.silu(_norm(x) @ layer.up) @ layer.down
            return int((_norm(x[-1]) @ self._head).argmax())

    def _attend(
        self,
        layer: _Layer,
        x: torch.Tensor,
        kv: tuple[torch.Tensor, torch.Tensor],
        slots: torch.Tensor,
        positions: torch.Tensor,
    ) -> torch.Tensor:
        shape, num_new = self.shape, len(positions)
        queries = (x @ layer.query).view(num_new, shape.num_heads, shape.head_dim)
        new_keys = (x @ layer.key).view(num_new, shape.num_kv_heads, shape.head_dim)
        new_values = (x @ layer.value).view(num_new, shape.num_kv_heads, shape.head_dim)
        keys, values = (plane.view(-1, shape.num_kv_heads, shape.head_dim) for plane in kv)
        keys[slots[-num_new:]] = _rotated(new_keys, positions)
        values[slots[-num_new:]] = new_values
        group = shape.num_heads // shape.num_kv_heads
        all_keys = keys[slots].repeat_interleave(group, dim=1)
        all_values = values[slots].repeat_interleave(group, dim=1)
        scores = torch.einsum("qhd,khd->hqk", _rotated(queries, positions), all_keys)
        scores = scores.float() / math.sqrt(shape.head_dim)
        is_later = torch.arange(len(slots))[None, :] > positions[:, None]
        scores = scores.masked_fill(is_later[None], float("-inf")).softmax(-1).to(self.dtype)
        return torch.einsum("hqk,khd->qhd", scores, all_values).reshape(num_new, -1)


def _norm(x: torch.Tensor) -> torch.Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


def _rotated(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Turn pairs of numbers by angles that grow with the position."""
    half = x.shape[-1] // 2
    speeds = 100.0 ** (-torch.arange(half) / half)
    angles = positions[:, None, None] * speeds
    first, second = x.float().split(half, dim=-1)
    turned = (
        first * angles.cos() - second * angles.sin(),
        first * angles.sin() + second * angles.cos(),
    )
    return torch.cat(turned, dim=-1).to(x.dtype)
