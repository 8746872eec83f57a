"""`scripts/make_step_tables`: profiles from one's own measurements and from aiconfigurator."""

import sys
from pathlib import Path

import pytest
from step_tables import aic, cli
from step_tables.measurements import COLUMNS
from step_tables.points import all_points
from step_tables.shipped import SHIPPED

from hfx_sgl.engine.profile import load_profile, profile_names
from hfx_sgl.engine.step_times.times import PrefillPart

HEADER = ",".join(COLUMNS)
MEASURED = f"""{HEADER}
prefill,1,1,0,,,8
prefill,1,100,0,,,10
prefill,1,1,50,,,8
prefill,1,100,50,,,11
decode,,,,1,10,6
decode,,,,1,100,7
decode,,,,8,10,9
decode,,,,8,100,12
"""
MIXED = "mixed,1,100,0,1,10,13\n"
FACTS = [
    "--model=m",
    "--device=d",
    "--source=mine",
    "--kv-capacity-tokens=1000",
    "--kv-bytes-per-token=64",
    "--max-context-tokens=500",
]

FAKE_AIC = """
class EngineHandle:
    @classmethod
    def compile(cls, model, system, backend, tp_size):
        if system != "h100_sxm":
            raise SystemExit(f"no data for {system}")
        assert backend == "sglang"
        cls.scale = tp_size * (2 if model == "two" else 1)
        return cls()

    def predict_prefill_latency(self, batch, isl, prefix):
        if batch * (isl - prefix) > 20000:
            raise RuntimeError("out of range")
        return self.scale * (5 + 0.01 * batch * (isl - prefix) + 0.001 * prefix)

    def decode_step_latency(self, batch, context, osl):
        return self.scale * (4 + 0.00001 * batch * context)

    def mixed_step_breakdown(self, chunk, running, isl, osl):
        attention = 0.00001 * running * (isl + osl // 2)
        return self.scale * (5 + 0.01 * (chunk + running) + attention), 0, 0, 0
"""


@pytest.fixture
def fake_aic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "aiconfigurator_core" / "sdk"
    package.mkdir(parents=True)
    (package / "engine.py").write_text(FAKE_AIC, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setattr(cli, "ensure_aic", lambda venv: Path(sys.executable))


def run_csv(tmp_path: Path, text: str) -> int:
    source = tmp_path / "measured.csv"
    source.write_text(text, encoding="utf-8")
    return cli.main(["csv", str(source), str(tmp_path / "mine"), *FACTS])


def test_measurements_become_a_profile(tmp_path: Path) -> None:
    assert run_csv(tmp_path, MEASURED + MIXED) == 0
    profile = load_profile(tmp_path / "mine")
    assert (profile.model, profile.device, profile.source) == ("m", "d", "mine")
    assert (profile.num_devices, profile.max_context_tokens) == (1, 500)
    assert profile.step_times.prefill_s([PrefillPart(100, 50)]) == 0.011
    assert profile.step_times.decode_s(8, 800) == 0.012
    mixed_s = profile.step_times.mixed_s([PrefillPart(100, 0)], 1, 10)
    assert mixed_s == pytest.approx(0.013)


def test_measurements_without_mixed_steps_leave_no_mixed_table(tmp_path: Path) -> None:
    assert run_csv(tmp_path, MEASURED + MIXED) == 0
    assert run_csv(tmp_path, MEASURED) == 0
    assert not (tmp_path / "mine" / "mixed.csv").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MEASURED + "encode,,,,1,10,6\n", "10: kind: must be one of prefill, decode, mixed"),
        (MEASURED + "decode,1,,,8,200,6\n", "10: num_prompts: does not belong to kind decode"),
        (MEASURED + "decode,,,,8,100,12\n", "10: num_running,context_tokens: same as line 9"),
        (MEASURED.replace(",6\n", ",\n"), "6: latency_ms: must be a finite number above 0 ('')"),
        (MEASURED.replace("prefill,1,1,0,,,8\n", ""), "3: prefix_tokens: a gap, there is no row"),
        (f"{HEADER}\nprefill,1,1,0,,,8\n", "1: kind: no row of kind decode"),
        (f"{HEADER}\n", "1: row: no rows"),
        (MEASURED.replace("latency_ms", "ms"), "1: latency_ms: column is missing"),
    ],
)
def test_bad_measurements_are_refused_with_their_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, expected: str
) -> None:
    assert run_csv(tmp_path, text) == 2
    assert f"{tmp_path}/measured.csv:{expected}" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


def test_a_missing_file_of_measurements_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["csv", str(tmp_path / "no"), str(tmp_path / "mine"), *FACTS]) == 2
    assert "no: cannot be read" in capsys.readouterr().err


def run_aic(tmp_path: Path, *more: str) -> int:
    place = str(tmp_path / "looked-up")
    return cli.main(["aic", place, "--aic-model=two", "--num-devices=2", *more, *FACTS])


@pytest.mark.usefixtures("fake_aic")
def test_a_profile_is_looked_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_aic(tmp_path, "--aic-system=h100_sxm") == 0
    profile = load_profile(tmp_path / "looked-up")
    assert profile.num_devices == 2
    step_times = profile.step_times
    part = PrefillPart(1024, 2048)
    assert step_times.prefill_s([part]) == pytest.approx(4e-3 * (5 + 10.24 + 2.048))
    assert step_times.decode_s(16, 16 * 1024) == pytest.approx(4e-3 * (4 + 0.16384), rel=1e-4)
    mixed_s = step_times.mixed_s([PrefillPart(512, 0)] * 2, 64, 64 * 640)
    assert mixed_s == pytest.approx(4e-3 * (5 + 10.88 + 0.4096), rel=1e-4)
    assert step_times.num_extrapolated == 0
    assert "points, 44 without data" in capsys.readouterr().err


@pytest.mark.usefixtures("fake_aic")
def test_what_aiconfigurator_does_not_know_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_aic(tmp_path, "--aic-system=abacus") == 1
    assert "failed for two on abacus: no data for abacus" in capsys.readouterr().err


@pytest.mark.usefixtures("fake_aic")
def test_shipped_profiles_are_made_and_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = ["shipped", "qwen25-32b_h100_tp2", "--output-dir", str(tmp_path)]
    assert cli.main([*one, "--check"]) == 1
    assert "qwen25-32b_h100_tp2/decode.csv: differs" in capsys.readouterr().err
    assert list(tmp_path.glob("*/decode.csv")) == []
    assert cli.main(one) == 0
    assert cli.main([*one, "--check"]) == 0


def test_an_unknown_shipped_profile_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["shipped", "gpt-9"]) == 2
    assert "gpt-9" in capsys.readouterr().err


def test_the_script_knows_every_shipped_profile() -> None:
    assert tuple(sorted(SHIPPED)) == profile_names()


def test_every_point_is_asked_once() -> None:
    points = all_points()
    assert len(points) == len(set(points)) == 775


def test_a_failing_install_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(aic, "PACKAGE", "no-such-distribution")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert cli.main(["shipped", "--venv", str(tmp_path / "venv")]) == 1
    assert "exit status 1" in capsys.readouterr().err
