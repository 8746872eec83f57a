"""Equal seeds give equal files, byte for byte, in whichever process they are made."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hfx_sgl.sim.job import SimJob, run_job
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.workload.arguments import PlannedLoad
from hfx_sgl.workload.load import load_workload

SHAPES: tuple[dict[str, Any], ...] = ({"num_workers": 3}, {"num_prefill": 2, "num_decode": 2})


def job(seed: int = 3, **settings: Any) -> SimJob:
    return SimJob(
        spec=SimSpec(seed=seed, sample_interval_s=5.0, **settings),
        load=PlannedLoad(
            workload=load_workload("mixed"),
            seed=seed,
            load_factor=2.0,
            duration_s=math.inf,
            num_requests=150,
        ),
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("shape", SHAPES, ids=["unified", "pd"])
@pytest.mark.parametrize("policy", ["power_of_two", "cache_aware", "manual"])
def test_a_seed_gives_the_same_bytes_again(
    shape: dict[str, Any], policy: str, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        run_job(job(policy=policy, **shape), tmp_path / name)
    first = files(tmp_path / "first")
    assert first == files(tmp_path / "second")
    assert first.keys() == {"records.jsonl", "run.json", "summary.json", "workers.jsonl"}


def test_another_seed_gives_another_run(tmp_path: Path) -> None:
    run_job(job(num_workers=3), tmp_path / "a")
    run_job(job(num_workers=3, seed=4), tmp_path / "b")
    assert files(tmp_path / "a")["records.jsonl"] != files(tmp_path / "b")["records.jsonl"]


SCRIPT = """
import sys
from pathlib import Path
from hfx_sgl.sim.cli import main
sys.exit(main(["--workers", "3", "--policy", "cache_aware", "--workload", "mixed", "--seed", "3",
               "--num-requests", "100", "--quiet", "--output", sys.argv[1]]))
"""


def test_the_hash_seed_of_the_process_does_not_matter(tmp_path: Path) -> None:
    for name in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / name)],
            check=True,
            capture_output=True,
            env={"PYTHONHASHSEED": name, "PATH": ""},
        )
    assert files(tmp_path / "1") == files(tmp_path / "2")
