"""The plugin against a stand-in of what it hooks into; real SGLang runs it in end-to-end tests."""

import configparser
import logging
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hfx_transfer.sglang import plugin
from hfx_transfer.sglang.weights import contact

ROOT = Path(__file__).resolve().parents[3]
PUBLISH = "RemoteInstanceWeightTransporter.maybe_register_and_publish_weight_info"


class Hooks:
    """SGLang's registry of hooks."""

    def __init__(self) -> None:
        self.by_name: dict[str, Callable[..., Any]] = {}

    def register(self, target: str, hook: Callable[..., Any], kind: str) -> None:
        assert kind == "around"
        self.by_name[target.rpartition(".")[2]] = hook


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Hooks:
    """The registry, with a version of SGLang that the plugin is for."""
    hooks = Hooks()
    module = ModuleType("sglang.srt.plugins.hook_registry")
    module.__dict__.update(HookRegistry=hooks, HookType=SimpleNamespace(AROUND="around"))
    for name in ("sglang", "sglang.srt", "sglang.srt.plugins"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(plugin, "version", lambda name: plugin.SGLANG_VERSION)
    return hooks


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What a server was started with."""
    model = SimpleNamespace(
        remote_instance_weight_loader_start_seed_via_transfer_engine=True,
        engine_info_bootstrap_port=21003,
    )
    serving, parallel = SimpleNamespace(host="127.0.0.1"), SimpleNamespace(dist_init_addr=None)
    context = ModuleType("sglang.srt.runtime_context")
    context.__dict__.update(
        get_model=lambda: model, get_serving=lambda: serving, get_parallel=lambda: parallel
    )
    monkeypatch.setitem(sys.modules, context.__name__, context)
    return SimpleNamespace(model=model, serving=serving, parallel=parallel)


class Transporter:
    """What SGLang keeps of the weights and of the engine that offers them."""

    def __init__(self, weight_info: dict[str, Any] | None) -> None:
        self.weight_info = weight_info
        self.engine: object | None = object()
        self.session_id = "h:1"
        self.tp_rank = 1
        self.did: list[str] = []

    def _register_to_engine_info_bootstrap(self) -> None:
        self.did.append("published")

    def original(self, transporter: "Transporter") -> None:
        assert transporter is self
        self.did.append("as before")


def test_another_version_of_sglang_is_left_alone(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(plugin, "version", lambda name: "0.5.24")
    with caplog.at_level(logging.WARNING):
        plugin.apply()
    assert hooks.by_name == {}
    assert "0.5.24" in caplog.text


def publish(hooks: Hooks, transporter: Transporter) -> list[str]:
    plugin.apply()
    hooks.by_name[PUBLISH.rpartition(".")[2]](transporter.original, transporter)
    return transporter.did


def test_weights_that_came_from_a_peer_are_published(hooks: Hooks, server: SimpleNamespace) -> None:
    assert publish(hooks, Transporter({"w": (1, 1, 2)})) == ["published"]


def test_weights_from_disk_take_sglangs_own_way(hooks: Hooks, server: SimpleNamespace) -> None:
    assert publish(hooks, Transporter(None)) == ["as before"]


def test_who_is_no_seed_publishes_nothing(hooks: Hooks, server: SimpleNamespace) -> None:
    server.model.remote_instance_weight_loader_start_seed_via_transfer_engine = False
    assert publish(hooks, Transporter({"w": (1, 1, 2)})) == ["as before"]
    server.model.remote_instance_weight_loader_start_seed_via_transfer_engine = True
    without_engine = Transporter({"w": (1, 1, 2)})
    without_engine.engine = None
    assert publish(hooks, without_engine) == ["as before"]


@pytest.mark.parametrize(
    ("on_cuda", "way"), [([True, True], "v2"), ([False, False], "v1"), ([True, False], "v1")]
)
def test_memory_outside_of_cuda_is_registered_without_cudas_allocator(
    on_cuda: list[bool], way: str, hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    utils = ModuleType("sglang.srt.model_loader.remote_instance_weight_loader_utils")
    utils.__dict__["register_memory_region_v1"] = lambda model, engine: "v1"
    parent = ModuleType("sglang.srt.model_loader")
    parent.__dict__["remote_instance_weight_loader_utils"] = utils
    monkeypatch.setitem(sys.modules, parent.__name__, parent)
    monkeypatch.setitem(sys.modules, utils.__name__, utils)
    plugin.apply()
    parameters = [SimpleNamespace(is_cuda=each) for each in on_cuda]
    model = SimpleNamespace(parameters=lambda: iter(parameters))
    hook = hooks.by_name["register_memory_region_v2"]
    assert hook(lambda model, engine: "v2", model, object()) == way


def publish_at(hooks: Hooks, transporter: Transporter) -> list[str]:
    plugin.apply()
    hooks.by_name["_register_to_engine_info_bootstrap"](transporter.original, transporter)
    return transporter.did


class Requests(ModuleType):
    """The client library that SGLang brings along."""

    class RequestException(Exception):
        """Its base class of errors."""

    def __init__(self, *, fails: bool) -> None:
        super().__init__("requests")
        self.fails = fails
        self.puts: list[tuple[str, Any]] = []

    def put(self, url: str, json: Any, timeout: float) -> SimpleNamespace:
        assert 0 < timeout <= 5
        self.puts.append((url, json))
        return SimpleNamespace(raise_for_status=self.raise_for_status)

    def raise_for_status(self) -> None:
        if self.fails:
            raise self.RequestException("refused")


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> None:
    """SGLang's way to make a URL."""

    class NetworkAddress:
        def __init__(self, host: str, port: int) -> None:
            self.host, self.port = host, port

        def to_url(self) -> str:
            return f"http://{self.host}:{self.port}"

    network = ModuleType("sglang.srt.utils.network")
    network.__dict__["NetworkAddress"] = NetworkAddress
    monkeypatch.setitem(sys.modules, network.__name__, network)


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize(
    ("host", "dist_init_addr", "url"),
    [
        ("127.0.0.1", None, None),
        ("0.0.0.0", None, None),
        ("10.0.0.7", "10.0.0.7:5000", None),
        ("10.0.0.7", None, "http://10.0.0.7:21003/register_transfer_engine_info"),
        ("::", None, "http://::1:21003/register_transfer_engine_info"),
    ],
)
def test_a_server_offers_its_weights_where_it_listens(
    host: str,
    dist_init_addr: str | None,
    url: str | None,
    hooks: Hooks,
    server: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = Requests(fails=False)
    monkeypatch.setitem(sys.modules, "requests", requests)
    server.serving.host, server.parallel.dist_init_addr = host, dist_init_addr
    did = publish_at(hooks, Transporter({"w": (1, 1, 2)}))
    if url is None:
        assert did == ["as before"]
        assert requests.puts == []
        return
    assert did == []
    ((asked, body),) = requests.puts
    assert asked == url
    info = {"session_id": "h:1", "weights_info_dict": {"w": (1, 1, 2)}}
    assert body == {"tp_rank": 1, "transfer_engine_info": info}


@pytest.mark.usefixtures("address")
def test_a_server_that_cannot_offer_its_weights_still_serves(
    hooks: Hooks,
    server: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "requests", Requests(fails=True))
    server.serving.host = "10.0.0.7"
    publish_at(hooks, Transporter({}))
    assert "rank 1 cannot offer its weights to others: refused" in caplog.text


def test_the_plugin_is_known_by_one_name_wherever_it_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = project["entry-points"]["sglang.srt.plugins"]
    assert installed == {contact.PLUGIN: "hfx_transfer.sglang.plugin:apply"}
    shims = configparser.ConfigParser()
    (folder,) = (ROOT / "scripts" / "sglang_cpu" / "shims").glob("*.dist-info")
    shims.read(folder / "entry_points.txt")
    assert shims["sglang.srt.plugins"][contact.PLUGIN] == "hfx_sglang_plugin:apply"
