"""Torch modules and state dicts, there and back."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.weights import (
    LoadSettings,
    SeedSettings,
    hold_weights,
    load_weights,
    serve_weights,
)
from structlog.testing import capture_logs
from support.weights import by, write_weights

from hfx_sgl.errors import TransferError, TransferFault

torch = pytest.importorskip("torch")
nn = torch.nn

ODD_DTYPES = ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "int8", "bool", "complex64"]


def make_module(seed: int = 0) -> Any:
    """A module with everything that state dicts are made of."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Any:
        return torch.randn(*shape, generator=generator)

    module = nn.Module()
    module.embedding = nn.Embedding(40, 16, _weight=noise(40, 16))
    module.head = nn.Linear(16, 40, bias=False, device="meta")
    module.head.weight = module.embedding.weight
    module.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))
    for layer in module.layers:
        layer.weight.data = noise(16, 16)
        layer.bias.data = noise(16)
    module.strided = nn.Parameter(noise(12, 8).t(), requires_grad=False)
    module.register_buffer("scalar", torch.tensor(2.5 + seed))
    module.register_buffer("nothing", torch.empty(0, 3))
    module.register_buffer("scratch", noise(4), persistent=False)
    for name in ODD_DTYPES:
        values = noise(6, 5).to(getattr(torch, name))
        module.register_buffer(f"of_{name}", values)
    return module


def as_bytes(tensor: Any) -> bytes:
    content: bytes = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return content


def contents(state: Any) -> dict[str, tuple[Any, Any, bytes]]:
    return {
        name: (tensor.dtype, tuple(tensor.shape), as_bytes(tensor) if tensor.numel() else b"")
        for name, tensor in state.items()
    }


@pytest.mark.parametrize("backend", [Backend.SOCKET, Backend.SHM])
def test_module_there_and_back(backend: Backend) -> None:
    source, target = make_module(1), make_module(2)
    parameters = dict(target.named_parameters())
    with serve_weights(source) as seed:
        loaded = load_weights(target, from_=seed.url, settings=by(backend))
    assert contents(target.state_dict()) == contents(source.state_dict())
    assert loaded.is_verified
    (slab,) = loaded.holding.slabs
    for tensor in target.state_dict().values():
        assert not tensor.numel() or 0 <= tensor.data_ptr() - slab.address < slab.size_bytes
    # An optimiser that was given the parameters before still has the right ones.
    assert dict(target.named_parameters()) == parameters
    assert target.head.weight is target.embedding.weight
    assert not target.strided.requires_grad
    loaded.close()
    assert contents(target.state_dict()) == contents(source.state_dict())
    with torch.no_grad():
        target.embedding.weight += 1


def test_tied_tensors_are_sent_once() -> None:
    with serve_weights(make_module()) as seed:
        places = {place.name: place for place in seed.manifest.tensors}
    tied, other = places["embedding.weight"], places["head.weight"]
    assert (tied.slab, tied.offset_bytes) == (other.slab, other.offset_bytes)


def test_module_on_the_meta_device_gets_its_memory() -> None:
    source = make_module(1)
    with torch.device("meta"):
        target = nn.Module()
        target.embedding = nn.Embedding(40, 16)
        target.head = nn.Linear(16, 40, bias=False)
        target.head.weight = target.embedding.weight
        target.register_buffer("scalar", torch.tensor(0.0))
    names = set(target.state_dict())
    state = {name: tensor for name, tensor in source.state_dict().items() if name in names}
    with serve_weights(state) as seed:
        load_weights(target, from_=seed.url)
    assert contents(target.state_dict()) == contents(state)
    assert target.head.weight is target.embedding.weight
    assert isinstance(target.head.weight, nn.Parameter)


def test_state_dict_without_a_module() -> None:
    source = make_module(1).state_dict()
    with serve_weights(source, generation=5) as seed:
        loaded = load_weights(from_=seed.url)
    assert loaded.generation == 5
    assert contents(loaded.state_dict()) == contents(source)
    state = loaded.state_dict()
    assert state["head.weight"] is state["embedding.weight"]


def test_what_was_loaded_is_served_in_place() -> None:
    source = make_module(1)
    with serve_weights(source) as seed:
        loaded = load_weights(from_=seed.url)
    state = loaded.state_dict()
    with capture_logs() as logs:
        holding = hold_weights(state)
    assert [entry["event"] for entry in logs] == ["weights_served_in_place"]
    assert holding.slabs[0].address == loaded.holding.slabs[0].address
    assert not holding.is_frozen
    assert holding.identity.model_hash == loaded.model_hash


def test_scattered_memory_is_copied_and_the_log_says_so() -> None:
    state = OrderedDict((f"t{i}", torch.full((8,), float(i))) for i in range(100))
    with capture_logs() as logs:
        holding = hold_weights(state)
    assert holding.is_frozen
    assert len(holding.slabs) == 1
    assert [entry["event"] for entry in logs] == ["weights_copied"]
    assert "100 pieces of memory" in logs[0]["reason"]
    in_place = hold_weights(state, copy=False)
    assert len(in_place.slabs) == 100
    state["t7"][0] = -1.0
    assert bytes(in_place.slabs[97].view())[:4] != bytes(4)


def test_memory_with_other_things_in_it_is_not_served_in_place() -> None:
    big = torch.ones(1000)
    with pytest.raises(TransferError, match=r"3600 of 4000 bytes .* are something else"):
        hold_weights({"part": big[:100]}, copy=False)
    with pytest.raises(TransferError, match="something else between them"):
        hold_weights({"a": big[:480], "b": big[500:]}, copy=False)
    with pytest.raises(TransferError, match="share parts of their memory"):
        hold_weights({"a": big, "b": big[500:]}, copy=False)
    with pytest.raises(TransferError, match="tensor a is not contiguous"):
        hold_weights({"a": big.view(10, 100).t()}, copy=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: delattr(m, "scalar"), "scalar is not in the module"),
        (lambda m: m.register_buffer("more", torch.ones(3)), "more is missing"),
        (
            lambda m: m.register_buffer("scalar", torch.tensor(1)),
            r"scalar is F32 \[\], the module has I64 \[\]",
        ),
        (
            lambda m: m.register_buffer("of_bool", torch.ones(2, dtype=torch.bool)),
            r"of_bool is BOOL \[6, 5\], the module has BOOL \[2\]",
        ),
    ],
)
def test_module_that_differs_stays_as_it_is(change: Any, message: str) -> None:
    target = make_module(2)
    change(target)
    before = contents(target.state_dict())
    with (
        serve_weights(make_module(1)) as seed,
        pytest.raises(TransferError, match=message) as caught,
    ):
        load_weights(target, from_=seed.url)
    assert caught.value.fault is TransferFault.INCOMPATIBLE
    assert contents(target.state_dict()) == before


def test_module_stays_as_it_is_when_no_source_is_left(tmp_path: Path) -> None:
    target = make_module(2)
    before = contents(target.state_dict())
    other = write_weights(tmp_path / "m.safetensors", num_tensors=1, mib_each=0.1)
    with pytest.raises(TransferError, match="no source is left"):
        load_weights(target, from_="http://127.0.0.1:1", fallback=other)
    assert contents(target.state_dict()) == before


def test_module_from_disk_alone(tmp_path: Path) -> None:
    source, target = make_module(1), make_module(2)
    with serve_weights(source) as seed:
        load_weights(from_=seed.url).save(tmp_path)
    with capture_logs() as logs:
        loaded = load_weights(target, fallback=tmp_path)
    assert contents(target.state_dict()) == contents(source.state_dict())
    assert not loaded.is_verified
    (entry,) = (entry for entry in logs if entry["event"] == "weights_from_disk")
    assert not entry["verified"]


def test_own_files_are_those_of_the_format(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    source = make_module(1)
    with serve_weights(source) as seed:
        (path,) = load_weights(from_=seed.url).save(tmp_path)
    assert contents(safetensors.load_file(path)) == contents(source.state_dict())


def test_shared_tensors_are_written_to_by_nobody_else() -> None:
    source = make_module(1)
    with serve_weights(source, copy=True) as seed:
        first, second = (load_weights(from_=seed.url, share=True).state_dict() for _ in range(2))
        first["scalar"].fill_(99.0)
        assert second["scalar"].item() == 3.5
        assert load_weights(from_=seed.url).state_dict()["scalar"].item() == 3.5


def test_memory_that_may_change_is_not_shared() -> None:
    flat = torch.arange(4096, dtype=torch.float32)
    settings = LoadSettings(share=True, verify_shared=True)
    with serve_weights({"flat": flat}, copy=False) as seed:
        assert all(not slab.is_frozen for slab in seed.manifest.slabs)
        loaded = load_weights(from_=seed.url, settings=settings)
        assert loaded.is_verified
        flat += 1
        assert loaded.state_dict()["flat"][0].item() == 0.0


def test_memory_that_others_were_given_is_not_shared() -> None:
    with serve_weights(make_module(1), copy=True) as seed:
        reseed = SeedSettings(backends=(Backend.SHM,))
        with load_weights(from_=seed.url, reseed=reseed) as loaded:
            assert loaded.seed is not None
            copied = load_weights(from_=loaded.seed.url, share=True)
            assert copied.is_verified
            loaded.state_dict()["scalar"].fill_(99.0)
            assert copied.state_dict()["scalar"].item() == 3.5


def test_weights_changed_in_place_are_served_as_a_new_generation() -> None:
    flat = torch.zeros(4096)
    state = {"flat": flat}
    with serve_weights(state, copy=False) as seed:
        assert seed.withdraw()
        flat += 1
        with pytest.raises(TransferError, match="nothing is served"):
            load_weights(from_=seed.url)
        seed.replace(hold_weights(state, copy=False, generation=1))
        loaded = load_weights(from_=seed.url)
        assert (loaded.generation, loaded.state_dict()["flat"][0].item()) == (1, 1.0)
        flat += 1
        with pytest.raises(ValueError, match="generation 1 is not above 1"):
            seed.replace(hold_weights(state, copy=True, generation=1))


def test_weights_changed_behind_the_seeds_back_are_noticed() -> None:
    flat = torch.zeros(4096)
    settings = SeedSettings(backends=(Backend.SOCKET,))
    with serve_weights({"flat": flat}, copy=False, settings=settings) as seed:
        flat += 1
        with pytest.raises(TransferError, match="digest_mismatch"):
            load_weights(from_=seed.url)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", "tensor x is a str, no tensor"),
        (torch.ones(3, device="meta"), "tensor x is on the meta device"),
        (torch.eye(3).to_sparse(), "tensor x is not dense"),
    ],
    ids=["text", "meta", "sparse"],
)
def test_what_cannot_be_served(value: Any, message: str) -> None:
    with pytest.raises(TransferError, match=message) as caught:
        hold_weights({"x": value})
    assert caught.value.fault is TransferFault.INCOMPATIBLE


def test_short_imports() -> None:
    import hfx_transfer

    assert hfx_transfer.serve_weights is serve_weights
    assert hfx_transfer.load_weights is load_weights
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        hfx_transfer.nonsense  # noqa: B018
