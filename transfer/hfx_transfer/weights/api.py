"""Serve weights and load them, in three lines each.

with serve_weights(module, port=23000) as seed:
    print(seed.url)
    ...

load_weights(module, from_=["http://a:23000", "http://b:23000"], fallback="model.safetensors")
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from hfx_sgl.clock import Clock, WallClock
from hfx_sgl.errors import ConfigError
from hfx_transfer.engine.capability import open_engine
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.memory.slab import Slab
from hfx_transfer.observer import NO_OBSERVER, TransferObserver
from hfx_transfer.weights.attempt import Hooks
from hfx_transfer.weights.chunks import DEFAULT_CHUNK_BYTES, ChunkGrid
from hfx_transfer.weights.disk import read
from hfx_transfer.weights.engines import EngineSet
from hfx_transfer.weights.holding import Holding, hold
from hfx_transfer.weights.layout import Layout, lay_out
from hfx_transfer.weights.loaded import LoadedWeights
from hfx_transfer.weights.loader import Loader
from hfx_transfer.weights.manifest import ParallelRank
from hfx_transfer.weights.progress import LoadProgress
from hfx_transfer.weights.reseed import Reseeder
from hfx_transfer.weights.safetensors_file import find_tensors
from hfx_transfer.weights.seed import Seed
from hfx_transfer.weights.settings import LoadSettings, SeedSettings
from hfx_transfer.weights.slabs import make_slabs
from hfx_transfer.weights.torch_module import check_module, device_of, put_into
from hfx_transfer.weights.torch_weights import named_tensors, place

if TYPE_CHECKING:
    import torch

    Weights: TypeAlias = torch.nn.Module | Mapping[str, torch.Tensor] | Path | str


def hold_weights(
    weights: "Weights",
    *,
    generation: int = 0,
    rank: ParallelRank | None = None,
    copy: bool | None = None,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    clock: Clock | None = None,
) -> Holding:
    """Return weights as a seed serves them.

    Args:
        weights: a module, a state dict, or the path of a safetensors file or of a folder of them.
        generation: grows whenever the weights change.
        rank: which part of the model they are; None for all of it.
        copy: of a module or state dict. True: copied once into shared memory, from which other
            processes of this host take them fastest, and which training cannot change under a
            receiver. False: served where they lie. None: served where they lie when that is few
            pieces of memory, else copied; the log says which.
        chunk_bytes: how much is verified, and can be lost to a source that dies, at a time.
        clock: for reading files.

    Raises:
        TransferError: a tensor cannot be served (incompatible), or a file cannot be read.
    """
    if isinstance(weights, str | Path):
        stored = find_tensors(Path(weights))
        layout = lay_out(tensor.spec for tensor in stored.values())
        slabs = make_slabs(layout.slab_sizes_bytes, "cpu", shareable=True)
        grid = ChunkGrid(layout.slab_sizes_bytes, chunk_bytes)
        read(layout, slabs, grid, stored, clock=clock or WallClock())
        is_copy = True
    else:
        layout, slabs, is_copy = place(named_tensors(weights), copy=copy)
    return hold(
        layout, slabs, generation=generation, rank=rank, chunk_bytes=chunk_bytes, is_frozen=is_copy
    )


def serve_weights(
    weights: "Weights",
    *,
    port: int = 0,
    token: str | None = None,
    generation: int = 0,
    rank: ParallelRank | None = None,
    copy: bool | None = None,
    settings: SeedSettings | None = None,
    clock: Clock | None = None,
    observer: TransferObserver = NO_OBSERVER,
    render_metrics: Callable[[], bytes] | None = None,
) -> Seed:
    """Serve weights until the seed is closed. See `hold_weights` for the first arguments.

    Args:
        weights: what to serve.
        port: of the control plane; 0 for any free one.
        token: what receivers must know; needed beyond loopback.
        generation: see `hold_weights`.
        rank: see `hold_weights`.
        copy: see `hold_weights`.
        settings: everything else; `port` and `token` above replace its own when given.
        clock: for leases; None for the machine's.
        observer: counts.
        render_metrics: see `Seed`.

    Raises:
        ConfigError: the settings contradict each other.
        TransferError: a tensor cannot be served (incompatible), no backend works here or the port
            is taken (unavailable).
    """
    chosen = settings or SeedSettings()
    chosen = replace(chosen, port=port or chosen.port, token=token or chosen.token)
    holding = hold_weights(
        weights,
        generation=generation,
        rank=rank,
        copy=copy,
        chunk_bytes=chosen.chunk_bytes,
        clock=clock,
    )
    engines = _engines(chosen.engine_settings(), clock)
    try:
        return Seed(
            holding, engines, chosen, clock=clock, observer=observer, render_metrics=render_metrics
        )
    except BaseException:
        engines.close()
        holding.close()
        raise


def load_weights(
    module: "torch.nn.Module | None" = None,
    *,
    from_: str | Sequence[str] = (),
    fallback: str | Path | None = None,
    token: str | None = None,
    share: bool = False,
    reseed: SeedSettings | None = None,
    settings: LoadSettings | None = None,
    on_progress: Callable[[LoadProgress], None] | None = None,
    clock: Clock | None = None,
    observer: TransferObserver = NO_OBSERVER,
    render_metrics: Callable[[], bytes] | None = None,
) -> LoadedWeights:
    """Get weights from running seeds, and from disk where none is left.

    A module is touched only when all its weights are in place and verified: then its tensors
    become views of the loaded memory, without a copy. If this raises, the module is as before.

    Args:
        module: what to load into; None for a state dict, by `LoadedWeights.state_dict`.
        from_: URLs of seeds, the preferred ones first.
        fallback: a safetensors file, or a folder of them. It is compared with what the seeds
            promised; if none of them answered, it is taken as it is, and the log says so.
        token: what the seeds ask for.
        share: map the memory of a seed on this host instead of copying it. What is written to
            such tensors stays in this process, and they outlive the seed.
        reseed: serve what was verified already while loading, and everything from then on, with
            the token that the sources ask for.
        settings: everything else; `token` and `share` above replace its own when given.
        on_progress: called several times a second from the calling thread.
        clock: for all limits; None for the machine's.
        observer: counts.
        render_metrics: what the control plane shows at /metrics with `reseed`; see `Seed`.

    Raises:
        ConfigError: the settings contradict each other.
        TransferError: no source was left (no_source_left: the message lists each and why), the
            weights are not the module's (incompatible), or they kept changing
            (generation_changed).
    """
    clock = clock or WallClock()
    chosen = settings or LoadSettings()
    chosen = replace(chosen, token=token or chosen.token, share=share or chosen.share)
    device = chosen.device if module is None else device_of(module)
    engine_settings = chosen.engine_settings()
    if reseed is not None:
        if reseed.token != chosen.token:
            raise ConfigError("reseed.token: must be the token that the sources ask for")
        engine_settings = replace(
            reseed.engine_settings(),
            progress_timeout_s=chosen.progress_timeout_s,
            first_contact_timeout_s=chosen.first_contact_timeout_s,
        )
    engines = _engines(engine_settings, clock)
    reseeder = Reseeder(
        reseed, engines, clock=clock, observer=observer, render_metrics=render_metrics
    )

    def check(layout: Layout) -> None:
        if module is not None:
            check_module(module, layout)

    def allocate(sizes_bytes: Sequence[int]) -> list[Slab]:
        return make_slabs(sizes_bytes, device, shareable=reseed is not None)

    hooks = Hooks(
        check=check,
        allocate=allocate,
        on_holding=reseeder.serve,
        discard=reseeder.discard,
        on_progress=on_progress or (lambda _: None),
    )
    loader = Loader(
        [from_] if isinstance(from_, str) else from_,
        None if fallback is None else Path(fallback),
        chosen,
        engines,
        hooks,
        clock=clock,
        observer=observer,
    )
    try:
        outcome = loader.run()
        loaded = LoadedWeights(outcome, reseeder.seed)
        if module is not None:
            put_into(module, loaded.state_dict())
    except BaseException:
        reseeder.close()
        engines.close()
        raise
    if reseeder.seed is None:
        engines.close()
    return loaded


def _engines(settings: EngineSettings, clock: Clock | None) -> EngineSet:
    return EngineSet(lambda backend: open_engine(backend, settings, clock=clock))
