"""Engine profiles: the shipped ones, a folder of one's own, and what is wrong with one."""

import random
import shutil
from pathlib import Path

import pytest

from hfx_sgl.engine.profile import DEFAULT_PROFILE, load_profile, profile_names
from hfx_sgl.engine.step_times.times import PrefillPart, StepTimes
from hfx_sgl.errors import ConfigError
from hfx_sgl.types import Role

NAMES = (
    "llama31-8b_a100_tp1",
    "qwen25-32b_h100_tp2",
    "qwen3-30b-a3b_h100_tp1",
    "qwen3-8b_h100_tp1",
)


def shipped_folder() -> Path:
    from hfx_sgl.engine import profile

    return Path(profile.__file__).parent / "profiles"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped_folder() / DEFAULT_PROFILE, tmp_path / "mine"))


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "profile.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_these_profiles_ship() -> None:
    assert profile_names() == NAMES
    assert DEFAULT_PROFILE in NAMES


@pytest.mark.parametrize(
    ("name", "kv_bytes_per_token", "num_devices"),
    [
        ("qwen3-8b_h100_tp1", 147_456, 1),
        ("llama31-8b_a100_tp1", 131_072, 1),
        ("qwen25-32b_h100_tp2", 262_144, 2),
        ("qwen3-30b-a3b_h100_tp1", 98_304, 1),
    ],
)
def test_facts_of_shipped_profiles(name: str, kv_bytes_per_token: int, num_devices: int) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.kv_bytes_per_token == kv_bytes_per_token
    assert profile.num_devices == num_devices
    assert "aiconfigurator-core 0.12.0 (Apache-2.0)" in profile.source


def test_the_default_profile_takes_the_published_times() -> None:
    step_times = load_profile(DEFAULT_PROFILE).step_times
    assert step_times.prefill_s([PrefillPart(8192, 0)]) == pytest.approx(0.2109805)
    assert step_times.prefill_s([PrefillPart(512, 0)] * 8) == pytest.approx(0.0882, rel=1e-3)
    assert step_times.decode_s(64, 64 * 4096) == pytest.approx(0.0195475)
    mixed_s = step_times.mixed_s([PrefillPart(512, 0)] * 2, 64, 64 * 640)
    assert mixed_s == pytest.approx(0.0285741)
    assert step_times.num_extrapolated == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_prefill_step_takes_about_as_long_as_its_longest_part_or_more(name: str) -> None:
    step_times = load_profile(name).step_times
    rng = random.Random(7)
    for _ in range(300):
        parts = [_random_part(rng) for _ in range(rng.randint(2, 12))]
        longest_s = max(step_times.prefill_s([part]) for part in parts)
        apart_s = sum(step_times.prefill_s([part]) for part in parts)
        assert 0.93 * longest_s <= step_times.prefill_s(parts) <= 1.02 * apart_s


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_mixed_step_takes_less_than_two_steps(name: str) -> None:
    step_times = load_profile(name).step_times
    rng = random.Random(7)
    for _ in range(300):
        parts = [_random_part(rng)]
        num_running = rng.randint(1, 200)
        context = num_running * rng.randint(1, 4000)
        apart_s = step_times.prefill_s(parts) + step_times.decode_s(num_running, context)
        assert step_times.mixed_s(parts, num_running, context) <= apart_s


def _random_part(rng: random.Random) -> PrefillPart:
    return PrefillPart(int(2 ** rng.uniform(0, 11)), rng.choice([0, 0, rng.randint(1, 8000)]))


def test_a_folder_is_loaded_by_its_path(folder: Path) -> None:
    assert load_profile(folder).name == "mine"
    assert load_profile(str(folder)).kv_capacity_tokens == 363_636


def test_a_time_scale_stretches_every_step(folder: Path) -> None:
    with (folder / "profile.yaml").open("a", encoding="utf-8") as file:
        file.write("time_scale: 3\n")
    times = some_times(load_profile(folder).step_times)
    expected = [3 * time_s for time_s in some_times(load_profile(DEFAULT_PROFILE).step_times)]
    assert times == pytest.approx(expected)


def some_times(step_times: StepTimes) -> list[float]:
    part = PrefillPart(700, 30)
    return [
        step_times.prefill_s([part]),
        step_times.decode_s(5, 900),
        step_times.mixed_s([part], 5, 900),
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("device:", "gpu:", "profile.yaml:2: gpu: unknown key"),
        ("device: NVIDIA H100 SXM\n", "", "profile.yaml:1: device: is missing"),
        ("kv_capacity_tokens: 363636", "kv_capacity_tokens: lots", "profile.yaml:5: kv_capacity"),
        ("kv_capacity_tokens: 363636", "kv_capacity_tokens: 0", "profile.yaml:5: kv_capacity"),
        ("num_devices: 1", "num_devices: true", "profile.yaml:3: num_devices: "),
        ("num_devices: 1", "num_devices: 1\ntime_scale: 0", "profile.yaml:4: time_scale: "),
        ("num_devices: 1", "num_devices: 1\ntime_scale: .inf", "profile.yaml:4: time_scale: "),
    ],
)
def test_a_bad_profile_file_is_refused(folder: Path, old: str, new: str, expected: str) -> None:
    edit(folder, old, new)
    with pytest.raises(ConfigError) as caught:
        load_profile(folder)
    assert any(line.startswith(f"{folder}/{expected}") for line in caught.value.problems)


def test_an_unknown_profile_is_refused_with_the_known_names() -> None:
    with pytest.raises(ConfigError, match=r"gpt-9: no profile of that name .*qwen3-8b_h100_tp1"):
        load_profile("gpt-9")


def test_a_spec_takes_the_facts_of_the_profile_and_the_settings() -> None:
    spec = load_profile("qwen25-32b_h100_tp2").make_spec(
        Role.DECODE, page_tokens=16, max_context_tokens=9000
    )
    assert spec.role is Role.DECODE
    assert (spec.kv_capacity_tokens, spec.kv_bytes_per_token) == (283_358, 262_144)
    assert (spec.page_tokens, spec.max_context_tokens) == (16, 9000)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"page_size": 1, "tp": 2}, ("page_size: no such", "tp: no such")),
        ({"page_tokens": 0}, ("page_tokens: must be at least 1",)),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], expected: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_profile(DEFAULT_PROFILE).make_spec(Role.REGULAR, **settings)
    problems = caught.value.problems
    assert [line.startswith(start) for line, start in zip(problems, expected, strict=True)]
