import random
from pathlib import Path

import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.fakes import FakeRequest, make_workers
from hfx_sgl.policy.selection.catalog import (
    POLICY_NAMES,
    PREFILL_POLICY_NAMES,
    SelectionConfig,
    make_policy,
)
from hfx_sgl.policy.view import SelectionPolicy

MODULE = """
class Last:
    def __init__(self, config, rng):
        self.config = config

    def select(self, request, candidates, now_s):
        return candidates[-1]

    def forget(self, worker_id):
        pass


def not_a_policy(config, rng):
    return object()
"""


def make(name: str) -> SelectionPolicy:
    return make_policy(name, SelectionConfig(), random.Random(1))


def announce(folder: Path, package: str, entries: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay out an installed package that announces `entries`."""
    module = f"{package}_policies"
    (folder / f"{module}.py").write_text(MODULE)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[hfx_sgl.policies]\n" + entries.replace("MODULE", module)
    )
    monkeypatch.syspath_prepend(folder)


def test_names() -> None:
    assert set(POLICY_NAMES) == {
        "random",
        "round_robin",
        "power_of_two",
        "least_load",
        "cache_aware",
        "manual",
    }
    assert set(PREFILL_POLICY_NAMES) == {*POLICY_NAMES, "bucket"}


@pytest.mark.parametrize("name", PREFILL_POLICY_NAMES)
def test_every_name_makes_a_policy_of_its_own(name: str) -> None:
    assert make(name) is not make(name)
    workers = make_workers(0, 0, 0)
    assert make(name).select(FakeRequest(b"x" * 200, "key"), workers, 0.0) in workers


def test_policies_of_the_names_differ() -> None:
    assert len({type(make(name)) for name in PREFILL_POLICY_NAMES}) == len(PREFILL_POLICY_NAMES)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'fastest' \(known: random, .*bucket\)"):
        make("fastest")


def test_foreign_policy_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    announce(tmp_path, "found_it", "last = MODULE:Last\n", monkeypatch)
    workers = make_workers(0, 0, 0)
    assert make("last").select(FakeRequest(), workers, 0.0) is workers[-1]
    with pytest.raises(ConfigError, match=r"bucket, last\)"):
        make("fastest")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("bad = no_such_module_here:X", "cannot be loaded from no_such_module_here:X"),
        ("bad = MODULE:Missing", "cannot be loaded from .*:Missing"),
        ("bad = MODULE:not_a_policy", "has no method select"),
    ],
)
def test_unusable_foreign_policy_is_refused(
    entry: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(tmp_path, "unusable", entry + "\n", monkeypatch)
    with pytest.raises(ConfigError, match=message):
        make("bad")


def test_name_announced_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("one_of_two", "two_of_two"):
        announce(tmp_path, package, "twice = MODULE:Last\n", monkeypatch)
    with pytest.raises(ConfigError, match="'twice' is announced more than once"):
        make("twice")


def test_built_in_names_cannot_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    announce(tmp_path, "impostor", "round_robin = MODULE:Last\n", monkeypatch)
    workers = make_workers(0, 0)
    assert make("round_robin").select(FakeRequest(), workers, 0.0) is workers[0]
