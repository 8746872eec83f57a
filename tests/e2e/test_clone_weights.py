"""Real servers that take their weights from running ones, with no weight file to fall back on.

Emulated servers hold no weights. Servers are started as rarely as the cases allow.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hfx_transfer.sglang.weights import CloneSettings, start_clones
from hfx_transfer.sglang.weights.checksums import ask_checksums
from hfx_transfer.sglang.weights.http_json import ask_json
from support.fleet import EMULATED_BASE_PORT, ROOT, Fleet

from hfx_sgl.errors import LaunchError
from hfx_sgl.launch import prepare
from hfx_sgl.launch.plan import InstancePlan, plan_server
from hfx_sgl.launch.spec import ClusterSpec
from hfx_sgl.launch.weights import GiveUp
from hfx_sgl.types import Role

COMMAND_BASE_PORT = 23_500
ASK_TIMEOUT_S = 30.0
SETTINGS = CloneSettings(start_timeout_s=50.0, silence_timeout_s=3.0)
GREEDY = {
    "text": "the quick brown fox",
    "sampling_params": {"temperature": 0, "max_new_tokens": 12, "ignore_eos": True},
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]


@dataclass(slots=True)
class Chain:
    """A server that read its weights from disk, one that took them from it, and one from that."""

    fleet: Fleet
    weightless: Path
    """A model's folder with everything but the weights."""
    servers: list[InstancePlan] = field(default_factory=list)

    def plan(self, model_path: str) -> InstancePlan:
        """Plan one more server."""
        slot = self.fleet.next_slot
        self.fleet.next_slot += 1
        spec = ClusterSpec(
            model_path=model_path,
            served_model_name=prepare.TINY_MODEL_NAME,
            sglang_python=prepare.sglang_venv_python(ROOT),
            base_port=self.fleet.base_port,
            log_dir=str(self.fleet.log_dir),
            seed_weights=True,
        )
        return plan_server(spec, Role.REGULAR, ordinal=slot, slot=slot)

    def plan_clone(self) -> InstancePlan:
        """Plan one that cannot read weights from disk."""
        return self.plan(str(self.weightless))

    def plan_with_weights(self) -> InstancePlan:
        """Plan one that can."""
        return self.plan(prepare.tiny_model_path(ROOT))


@dataclass(slots=True)
class Sabotage:
    """A starter that does something to servers before or after they are started."""

    fleet: Fleet
    before: Callable[[InstancePlan], InstancePlan] = lambda plan: plan
    after: Callable[[], object] = lambda: None
    notes: list[str] = field(default_factory=list)

    def try_add(
        self, *plans: InstancePlan, timeout_s: float | None = None, give_up: GiveUp | None = None
    ) -> dict[str, str]:
        changed = [self.before(plan) for plan in plans]
        failed = self.fleet.cluster.try_add(*changed, timeout_s=timeout_s, give_up=give_up)
        self.after()
        return failed

    def stop(self, name: str) -> None:
        self.fleet.cluster.stop(name)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def chain(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """The three servers; tests may end the two that were copied."""
    if fleet.base_port == EMULATED_BASE_PORT:
        pytest.skip("emulated servers hold no weights")
    weightless = tmp_path_factory.mktemp("weightless")
    for path in Path(prepare.tiny_model_path(ROOT)).iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, weightless)
    chain = Chain(fleet, weightless)
    seed = chain.plan_with_weights()
    fleet.cluster.add(seed)
    chain.servers.append(seed)
    for _ in range(2):
        clone = chain.plan_clone()
        (outcome,) = start_clones(fleet.cluster, [clone], [chain.servers[-1].url], SETTINGS)
        assert outcome.source_url == chain.servers[-1].url
        chain.servers.append(clone)
    yield chain
    for server in chain.servers:
        fleet.cluster.kill(server.name)


def is_running(fleet: Fleet, server: InstancePlan) -> bool:
    return server.name in fleet.cluster.urls


def test_a_clone_of_a_clone_holds_the_same_weights_and_says_the_same(chain: Chain) -> None:
    urls = [server.url for server in chain.servers]
    infos = [ask_json(url, "/model_info", timeout_s=ASK_TIMEOUT_S) for url in urls]
    assert [info["load_format"] for info in infos] == ["auto", "remote_instance", "remote_instance"]
    digests = [ask_checksums(url, timeout_s=ASK_TIMEOUT_S) for url in urls]
    assert len(digests[0]["target", 0, 0]) == 15
    assert digests[1] == digests[2] == digests[0]
    answers = [ask_json(url, "/generate", timeout_s=ASK_TIMEOUT_S, body=GREEDY) for url in urls]
    tokens = [answer["output_ids"] for answer in answers]
    assert len(tokens[0]) == 12
    assert tokens[1] == tokens[2] == tokens[0]


def test_the_command_starts_a_server_from_what_a_router_has(chain: Chain, tmp_path: Path) -> None:
    """The router names the seed, the first clone is named itself; either will do."""
    seed, clone, _ = chain.servers
    router = chain.fleet.add_router([seed])
    command = [
        sys.executable, str(ROOT / "scripts" / "launch_pd_cluster"), "--device", "cpu",
        "--prefill", "0", "--decode", "1", "--no-router", "--bootstrap-from", router, clone.url,
        "--sglang-python", prepare.sglang_venv_python(ROOT),
        "--model-path", str(chain.weightless), "--served-model-name", prepare.TINY_MODEL_NAME,
        "--base-port", str(COMMAND_BASE_PORT), "--log-dir", str(tmp_path),
    ]  # fmt: skip
    errors = tmp_path / "errors"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        assert process.stdout is not None
        shown = ""
        for line in process.stdout:
            shown += line
            if "Ctrl-C" in line:
                break
        assert "Ctrl-C" in shown, errors.read_text()
        info = ask_json(
            f"http://127.0.0.1:{COMMAND_BASE_PORT}", "/model_info", timeout_s=ASK_TIMEOUT_S
        )
        process.terminate()
        assert process.wait(30) == 0
    assert "decode-0" in shown
    assert (info["load_format"], info["disaggregation_mode"]) == ("remote_instance", "decode")
    assert "weights: decode-0 holds the 15 tensors of" in errors.read_text()


def test_two_sources_fail_in_turn_and_the_disk_is_read(chain: Chain) -> None:
    """The first dies before it is copied; for the second SGLang is made to read the disk."""
    _, first, second = chain.servers

    def spoil(plan: InstancePlan) -> InstancePlan:
        if first.url.rpartition(":")[2] in plan.argv:
            chain.fleet.cluster.kill(first.name)
        elif "--load-format" in plan.argv:
            at = plan.argv.index("--remote-instance-weight-loader-seed-instance-ip")
            return replace(plan, argv=plan.argv[:at] + plan.argv[at + 2 :])
        return plan

    server = chain.plan_with_weights()
    starter = Sabotage(chain.fleet, before=spoil)
    (outcome,) = start_clones(starter, [server], [first.url, second.url], SETTINGS)
    assert outcome.source_url is None
    died, fell_back = outcome.reasons
    assert died.startswith(f"{first.url}: ended with")
    assert fell_back == f"{second.url}: SGLang fell back to load format 'auto' without a word"
    assert f"weights: {server.name} from disk" in starter.notes[-1]
    seed = ask_checksums(chain.servers[0].url, timeout_s=ASK_TIMEOUT_S)
    assert ask_checksums(server.url, timeout_s=ASK_TIMEOUT_S) == seed
    chain.fleet.cluster.kill(server.name)


def test_a_source_that_falls_silent_is_given_up_and_no_disk_is_named(chain: Chain) -> None:
    source = chain.servers[2]

    def freeze(plan: InstancePlan) -> InstancePlan:
        os.killpg(chain.fleet.cluster.instances[source.name].pid, signal.SIGSTOP)
        return plan

    server = chain.plan_clone()
    with pytest.raises(LaunchError) as caught:
        start_clones(Sabotage(chain.fleet, before=freeze), [server], [source.url], SETTINGS)
    chain.fleet.cluster.kill(source.name)
    said = str(caught.value)
    assert f"its source {source.url} has not answered for 3 s" in said
    assert f"disk: {chain.weightless} holds no weights" in said
    assert not is_running(chain.fleet, server)


def test_a_source_that_is_updated_meanwhile_is_found_out(chain: Chain) -> None:
    """Last of all: afterwards the seed's weights are random."""
    source = chain.servers[0]

    def overwrite() -> None:
        body = {"action": "reset_tensors"}
        ask_json(source.url, "/weights_checker", timeout_s=ASK_TIMEOUT_S, body=body)

    server = chain.plan_clone()
    with pytest.raises(LaunchError, match="15 of 15 tensors differ from the source's"):
        start_clones(Sabotage(chain.fleet, after=overwrite), [server], [source.url], SETTINGS)
    assert not is_running(chain.fleet, server)
