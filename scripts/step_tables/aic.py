"""Runs aiconfigurator-core: installs it in an environment of its own and asks it for step times."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

from step_tables.points import Point, all_points

from hfx_sgl.engine.step_times.rows import Row, TableFormat

PACKAGE = "aiconfigurator-core"
AIC_VERSION = "0.12.0"
WORKER = Path(__file__).with_name("aic_worker.py")
PROGRESS_EVERY = 100


class AicError(Exception):
    """It could not be installed, or gave no answer."""


def ensure_aic(venv: Path) -> Path:
    """Return a Python that has the package, after installing it into `venv` if need be."""
    try:
        if importlib.metadata.version(PACKAGE) == AIC_VERSION:
            return Path(sys.executable)
    except importlib.metadata.PackageNotFoundError:
        pass
    python = venv / "bin" / "python"
    if not (python.exists() and _version_in(python) == AIC_VERSION):
        _say(f"installing {PACKAGE} {AIC_VERSION} into {venv} (about 600 MB)")
        _run([sys.executable, "-m", "venv", str(venv)])
        _run([str(python), "-m", "pip", "install", "--quiet", f"{PACKAGE}=={AIC_VERSION}"])
    return python


def read_model(
    python: Path, model: str, system: str, num_devices: int, label: str
) -> dict[TableFormat, list[Row]]:
    """Return the rows of a model's tables, in milliseconds to four places.

    Points that the package has no data for are left out. `label` is for the progress line.
    """
    points = all_points()
    command = [str(python), str(WORKER), model, system, str(num_devices)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stderr is not None
        answers: list[float | None] = []
        try:
            for point in points:
                worker.stdin.write(_question(point))
                worker.stdin.flush()
                answers.append(json.loads(worker.stdout.readline()))
                if len(answers) % PROGRESS_EVERY == 0:
                    _say(f"{label}: {len(answers)} of {len(points)} points")
            worker.stdin.close()
        except (OSError, json.JSONDecodeError) as exc:
            worker.kill()
            lines = worker.stderr.read().strip().splitlines() or [repr(exc)]
            raise AicError(f"{PACKAGE} failed for {model} on {system}: {lines[-1]}") from exc
    num_missing = answers.count(None)
    _say(f"{label}: {len(points)} points, {num_missing} without data")
    rows: dict[TableFormat, list[Row]] = {}
    for (table, key), answer in zip(points, answers, strict=True):
        if answer is not None:
            found = rows.setdefault(table, [])
            found.append(Row(len(found) + 2, key, round(answer, 4)))
    return rows


def _question(point: Point) -> str:
    table, key = point
    return json.dumps([Path(table.file_name).stem, *key]) + "\n"


def _version_in(python: Path) -> str:
    code = f"import importlib.metadata as m; print(m.version({PACKAGE!r}))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise AicError(f"{' '.join(command)}: exit status {done.returncode} {last}".rstrip())


def _say(text: str) -> None:
    print(f"==> {text}", file=sys.stderr)
