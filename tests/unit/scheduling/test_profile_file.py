"""The file of latency models: what is written is read, and nothing else is."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hfx_router.scheduling.profile_file import (
    MAX_FILE_BYTES,
    DamagedProfileError,
    read_profile,
    set_aside,
    write_profile,
)

from hfx_sgl.policy.latency import LatencyModels, LatencySnapshot


def snapshot(step_s: float) -> LatencySnapshot:
    models = LatencyModels()
    for num_running in range(1, 41):
        models.decode.observe(num_running, 500 * num_running, step_s)
        models.prefill.observe(100 * num_running, 0, num_running * step_s)
    return models.snapshot()


CLASSES = {"model=a role=decode": snapshot(0.02), "model=ü role=prefill": snapshot(0.01)}


def test_what_was_written_is_read_exactly(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    write_profile(path, CLASSES)
    assert read_profile(path) == CLASSES
    write_profile(path, {})
    assert read_profile(path) == {}
    assert list(tmp_path.iterdir()) == [path]


def test_no_file_is_nothing_saved(tmp_path: Path) -> None:
    assert read_profile(tmp_path / "none.json") == {}


def test_the_format(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    write_profile(path, CLASSES)
    content = orjson.loads(path.read_bytes())
    assert content["version"] == 1
    one = content["classes"]["model=a role=decode"]
    assert set(one) == {"prefill", "decode", "transfer"}
    assert set(one["decode"]) == {"coefficients", "num_observations", "p90_ratio", "mean_ratio"}


def spoilt(change: Callable[[dict[str, Any]], object]) -> bytes:
    model = {"coefficients": [0.1] * 4, "num_observations": 50, "p90_ratio": 1.1, "mean_ratio": 1.0}
    content = {
        "version": 1,
        "classes": {
            "k": {
                "prefill": dict(model),
                "decode": dict(model),
                "transfer": {**model, "coefficients": [0.1] * 2},
            }
        },
    }
    change(content)
    return orjson.dumps(content)


def of(content: dict[str, Any], model: str) -> dict[str, Any]:
    found: dict[str, Any] = content["classes"]["k"][model]
    return found


def test_what_is_spoilt_below_is_good_when_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(spoilt(lambda content: None))
    assert list(read_profile(path)) == ["k"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (spoilt(lambda c: None)[:-20], "truncated"),
        (b"\xff\xfe\x00", "malformed"),
        (b"[]", "Expected `object`"),
        (spoilt(lambda c: c.update(version=2)), r"\$.version"),
        (spoilt(lambda c: c.pop("version")), "version"),
        (spoilt(lambda c: c.update(surprise=1)), "surprise"),
        (spoilt(lambda c: of(c, "decode").pop("p90_ratio")), "p90_ratio"),
        (spoilt(lambda c: of(c, "decode").update(coefficients="x")), "coefficients"),
        (spoilt(lambda c: of(c, "decode").update(coefficients=[-1.0] * 4)), "coefficients"),
        (spoilt(lambda c: of(c, "decode").update(coefficients=[0.1] * 3)), "must be 4 numbers"),
        (spoilt(lambda c: of(c, "transfer").update(p90_ratio=0)), "p90_ratio"),
        (spoilt(lambda c: of(c, "prefill").update(num_observations=1.5)), "num_observations"),
        (b" " * (MAX_FILE_BYTES + 1), "larger than"),
    ],
)
def test_damage_is_named(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(data)
    with pytest.raises(DamagedProfileError, match=reason):
        read_profile(path)
    assert path.read_bytes() == data


def test_what_cannot_be_read_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_profile(tmp_path)


@pytest.mark.parametrize("dies_at", ["fsync", "replace"])
def test_a_crash_while_writing_leaves_what_was_there(
    dies_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "profile.json"
    write_profile(path, CLASSES)

    def die(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os if dies_at == "fsync" else Path, dies_at, die)
        with pytest.raises(KeyboardInterrupt):
            write_profile(path, {})
    # As after a real crash, the draft is left; it is in nobody's way.
    assert path.with_name("profile.json.tmp").exists()
    assert read_profile(path) == CLASSES
    write_profile(path, {})
    assert read_profile(path) == {}
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_what_was_there_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "profile.json"
    write_profile(path, CLASSES)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_profile(path, {})
    assert list(tmp_path.iterdir()) == [path]
    assert read_profile(path) == CLASSES


def test_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    for content in ("first", "second"):
        path.write_text(content)
        aside = set_aside(path)
        assert aside.name == "profile.json.bad"
        assert aside.read_text() == content
        assert not path.exists()
