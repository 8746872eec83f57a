import subprocess
import sys
from pathlib import Path

from hfx_router.settings import RouterSettings
from hfx_router.settings.docs import render_page

ROOT = Path(__file__).resolve().parents[3]


def run_script(script: Path, *argv: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(script), *argv],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_committed_page_is_up_to_date() -> None:
    done = run_script(ROOT / "scripts" / "gen_docs", "--check")
    assert done.returncode == 0, done.stderr


def test_check_tells_a_stale_page_and_a_run_repairs_it(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "hfx_sgl").symlink_to(ROOT / "hfx_sgl")
    (tmp_path / "router").symlink_to(ROOT / "router")
    script = tmp_path / "scripts" / "gen_docs"
    script.write_bytes((ROOT / "scripts" / "gen_docs").read_bytes())
    page = tmp_path / "docs" / "configuration.md"
    page.write_text("old\n")

    stale = run_script(script, "--check")
    assert stale.returncode == 1
    assert "docs/configuration.md is out of date" in stale.stderr
    assert page.read_text() == "old\n"
    assert run_script(script).returncode == 0
    assert page.read_text() == render_page()
    assert run_script(script, "--check").returncode == 0


def test_every_setting_has_a_row() -> None:
    rows = [line for line in render_page().splitlines() if line.startswith("| `--")]
    flags = [row.split("`")[1] for row in rows]
    assert sorted(flags) == sorted(
        "--" + name.replace("_", "-") for name in RouterSettings.model_fields
    )
    assert all(row.replace("\\|", "").count("|") == 6 for row in rows)
