"""Compiled and pure, the scheduler decides the same: same workers, times and reasons, to the bit.

Needs the extensions (scripts/compile). The pure form runs in a process that cannot import them.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from hfx_sgl.code_form import CodeForm, code_form

ROOT = Path(__file__).parents[2]

HIDE_EXTENSIONS = f"""
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
of_sources = FileFinder.path_hook((SourceFileLoader, SOURCE_SUFFIXES))
def only_sources(path):
    if not path.startswith({str(ROOT)!r}) or "site-packages" in path:
        raise ImportError(path)
    return of_sources(path)
sys.path_hooks.insert(0, only_sources)
sys.path_importer_cache.clear()
"""

SIMULATE = """
import hashlib, sys
from hfx_sgl.code_form import code_form
from hfx_sgl.engine.profile import load_profile
from hfx_sgl.policy.scheduler.config import OnInfeasible, SchedulerConfig
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.sim import slo_router
from hfx_sgl.sim.run import simulate
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.workload.load import load_workload

class Noting:
    def __init__(self, *arguments):
        self._scheduler = Scheduler(*arguments)
    def __getattr__(self, name):
        return getattr(self._scheduler, name)
    def decide(self, now_s):
        actions = self._scheduler.decide(now_s)
        noted.update(repr((now_s, actions)).encode())
        return actions

slo_router.Scheduler = Noting
print(code_form())
for shape in ({"num_prefill": 2, "num_decode": 2}, {"num_workers": 4}):
    for what in OnInfeasible:
        noted = hashlib.sha256()
        config = SchedulerConfig(on_infeasible=what)
        spec = SimSpec(
            profile="qwen3-8b_h100_tp1", policy="hfx", seed=1, sample_interval_s=None,
            scheduler=config, **shape,
        )
        plan = load_workload("mixed").plan(seed=1, duration_s=15, load_factor=8)
        records = simulate(spec, plan, profile=load_profile(spec.profile)).records
        print(what, len(records), noted.hexdigest())
"""


def decisions(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.skipif(code_form() is not CodeForm.COMPILED, reason="nothing is compiled")
def test_compiled_decisions_are_those_of_the_source() -> None:
    compiled, pure = decisions(SIMULATE), decisions(HIDE_EXTENSIONS + SIMULATE)
    assert (compiled[0], pure[0]) == (CodeForm.COMPILED, CodeForm.PURE)
    assert compiled[1:] == pure[1:]
    assert len(set(compiled[1:])) == 6
