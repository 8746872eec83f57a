"""Weights that were loaded, as their user sees them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Self

from hfx_transfer.memory.copying import STAGE_BYTES, copy_out_of
from hfx_transfer.weights.layout import Layout, TensorSpec
from hfx_transfer.weights.loader import Outcome
from hfx_transfer.weights.progress import SourceReport
from hfx_transfer.weights.safetensors_file import write_file
from hfx_transfer.weights.seed import Seed
from hfx_transfer.weights.torch_weights import state_dict

if TYPE_CHECKING:
    import torch


class LoadedWeights:
    """All tensors of one generation, in memory that their user may write to.

    The tensors keep the memory alive; this object is needed only to serve it or to save it.
    """

    def __init__(self, outcome: Outcome, seed: Seed | None) -> None:
        self.holding = outcome.holding
        """The slabs and what lies where."""
        self.is_verified = outcome.is_verified
        """Whether each chunk was compared with what a source promised."""
        self.sources: tuple[SourceReport, ...] = outcome.sources
        """What became of each source."""
        self.seed = seed
        """What serves them to others; None unless that was asked for."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def generation(self) -> int:
        """Which one they are; 0 when they came from disk alone."""
        return self.holding.identity.generation

    @property
    def model_hash(self) -> str:
        """What they are."""
        return self.holding.identity.model_hash

    @property
    def layout(self) -> Layout:
        """Names, types, shapes and places."""
        return self.holding.layout

    def state_dict(self) -> "dict[str, torch.Tensor]":
        """Return the tensors by name, as views of the loaded memory. Needs torch."""
        return state_dict(self.holding.layout, self.holding.slabs)

    def save(self, folder: Path) -> list[Path]:
        """Write one safetensors file for each slab; return their paths. Needs no torch.

        Of tied tensors each is written, as the format knows no ties.

        Raises:
            OSError: there is no room, or no right to write.
        """
        folder.mkdir(parents=True, exist_ok=True)
        places = {place.name: place for place in self.layout.tensors}
        num_slabs = max(1, len(self.layout.slab_sizes_bytes))

        def write(fd: int, spec: TensorSpec) -> None:
            place = places[spec.name]
            stage = memoryview(bytearray(min(STAGE_BYTES, max(1, place.size_bytes))))
            for begin in range(place.offset_bytes, place.end_bytes, STAGE_BYTES):
                part = stage[: min(STAGE_BYTES, place.end_bytes - begin)]
                copy_out_of(self.holding.slabs[place.slab], begin, part)
                _write_all(fd, part)

        paths = []
        for slab in range(num_slabs):
            specs = [
                TensorSpec(name=place.name, dtype=place.dtype, shape=place.shape)
                for place in self.layout.tensors
                if place.slab == slab
            ]
            paths.append(folder / f"model-{slab + 1:05}-of-{num_slabs:05}.safetensors")
            write_file(paths[-1], specs, write)
        return paths

    def close(self) -> None:
        """Stop serving and let go of the memory; tensors made of it live on."""
        if self.seed is not None:
            self.seed.close()
        self.holding.close()


def _write_all(fd: int, data: memoryview) -> None:
    while data.nbytes:
        data = data[os.write(fd, data) :]
