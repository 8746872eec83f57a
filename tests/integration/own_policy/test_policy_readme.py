"""The policies' README: its example is installed as written, and used by simulator and router."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest
from hfx_router.settings.load import load_settings
from support.mock_worker import RecordingWorker
from support.router import running_router

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.selection.catalog import PREFILL_POLICY_NAMES

ROOT = Path(__file__).resolve().parents[3]
README = ROOT / "hfx_sgl" / "policy" / "README.md"
NAME = "long_apart"
_GROUP = "hfx_sgl.policies"


def code_block(language: str) -> str:
    """Return the only block of code in this language."""
    blocks = re.findall(
        rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL
    )
    assert len(blocks) == 1
    return str(blocks[0])


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with what an installer makes of the example: the module and its metadata."""
    project = tomllib.loads(code_block("toml"))["project"]
    (tmp_path / "my_policies.py").write_text(code_block("python"))
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    entries = project["entry-points"][_GROUP]
    lines = [f"[{_GROUP}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def on_path(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder is on the path of this process."""
    monkeypatch.syspath_prepend(installed)
    yield
    sys.modules.pop("my_policies", None)


def simulate(folder: Path, *python_path: Path) -> "subprocess.CompletedProcess[str]":
    """Run the simulator as its users do."""
    paths = [*map(str, python_path), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [
            sys.executable, "-m", "hfx_sgl.sim", "--workers", "4", "--policy", NAME,
            "--num-requests", "120", "--workload", "mixed", "--quiet", "--output", str(folder),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        cwd=ROOT, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip


def test_the_simulator_uses_it(installed: Path, tmp_path: Path) -> None:
    done = simulate(tmp_path / "run", installed)
    assert (done.returncode, done.stderr) == (0, "")
    records = [
        orjson.loads(line)
        for line in (tmp_path / "run" / "records.jsonl").read_bytes().splitlines()
    ]
    assert len(records) == 120
    lengths = {True: set[int](), False: set[int]()}
    for record in records:
        lengths[record["worker"] == "regular-0"].add(record["prompt_tokens"])
    assert min(lengths[True]) > max(lengths[False])
    assert len({record["worker"] for record in records}) == 4


def test_without_it_the_simulator_says_what_there_is(tmp_path: Path) -> None:
    done = simulate(tmp_path / "run")
    assert done.returncode == 2
    assert done.stderr.startswith(f"policy: no policy is called '{NAME}' (known: random, ")
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("on_path")
async def test_the_router_uses_it() -> None:
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(RecordingWorker()) for _ in range(4)]
        urls = [worker.url for worker in workers]
        running = await stack.enter_async_context(
            running_router("--worker-urls", *urls, "--policy", NAME)
        )
        kept = running.router.registry.workers[0]
        for num_bytes in (10, 9_000, 7_000, 20_000):
            body = orjson.dumps({"text": "x" * num_bytes})
            assert (await running.post(body=body)).status == 200
        served = {each.url: len(each.requests_for("/generate")) for each in workers}
    assert served[kept.spec.url] == 2
    assert sum(served.values()) == 4


@pytest.mark.usefixtures("on_path")
@pytest.mark.parametrize("flag", ["--policy", "--prefill-policy", "--decode-policy"])
def test_the_router_takes_its_name_wherever_a_policy_is_named(flag: str) -> None:
    settings = load_settings([flag, NAME], {})
    assert NAME in (settings.policy, settings.prefill_policy, settings.decode_policy)


def test_without_it_the_router_says_what_there_is() -> None:
    with pytest.raises(ConfigError, match=f"unknown policy '{NAME}', expected one of hfx, random"):
        load_settings(["--policy", NAME], {})


def test_every_built_in_policy_is_described() -> None:
    described = re.findall(r"^##+ (\w+)$", README.read_text(), re.MULTILINE)
    assert [name for name in described if name in {"hfx", *PREFILL_POLICY_NAMES}] == [
        "hfx", "random", "round_robin", "power_of_two", "least_load", "cache_aware", "manual",
        "bucket",
    ]  # fmt: skip


@pytest.mark.parametrize("heading", ["What it does.", "What it reads.", "Settings.", "Trade-offs."])
def test_each_description_answers_the_same_questions(heading: str) -> None:
    num_policies = 1 + len(PREFILL_POLICY_NAMES)
    assert README.read_text().count(f"**{heading}**") == num_policies


def test_links_lead_somewhere() -> None:
    text = README.read_text()
    anchors = set(re.findall(r"^##+ (\w+)$", text, re.MULTILINE))
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert len(targets) > 10
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in anchors, target
        else:
            assert (README.parent / target).exists(), target
