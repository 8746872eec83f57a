"""When latency models are saved, and what becomes of a file that cannot be used."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest
from hfx_router.scheduling import profile_store
from hfx_router.scheduling.profile_file import read_profile
from hfx_router.scheduling.profile_store import ProfileStore, load_profile
from structlog.testing import capture_logs
from support.virtual_loop import VirtualLoop

from hfx_sgl.policy.latency import LatencySnapshot, ModelCatalog


def learn(catalog: ModelCatalog, key: str = "k", step_s: float = 0.02) -> None:
    for num_running in range(1, 41):
        catalog.models_of(key).decode.observe(num_running, 500 * num_running, step_s)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the file was written, on virtual time: without the thread, which has none."""
    at_s: list[float] = []

    async def inline(function: Callable[..., None], *args: Any) -> None:
        at_s.append(asyncio.get_running_loop().time())
        function(*args)

    monkeypatch.setattr(asyncio, "to_thread", inline)
    return at_s


def run_virtual(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


def test_what_a_router_learnt_is_known_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"

    async def main() -> None:
        catalog = ModelCatalog()
        store = ProfileStore(path, catalog.snapshots)
        store.start()
        learn(catalog)
        await store.stop()
        again = ModelCatalog(load_profile(path))
        assert again.models_of("k").decode.fit.is_warm
        assert again.models_of("k").decode.predict_s(10, 5000) == pytest.approx(0.02, rel=0.05)
        assert catalog.snapshots() == again.snapshots()

    asyncio.run(main())


def test_it_saves_what_changed_each_interval(tmp_path: Path, writes: list[float]) -> None:
    path = tmp_path / "profile.json"

    async def main() -> None:
        catalog = ModelCatalog()
        learn(catalog)
        store = ProfileStore(path, catalog.snapshots)
        store.start()
        await asyncio.sleep(130)
        assert writes == []  # nothing is new
        for step_s in (0.03, 0.04):
            learn(catalog, step_s=step_s)
            await asyncio.sleep(1)
            learn(catalog, "other", step_s)
            await asyncio.sleep(119)
        assert writes == [180, 300]
        assert read_profile(path) == catalog.snapshots()
        await store.stop()
        assert len(writes) == 2

    run_virtual(main())


def test_the_event_loop_does_not_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def write(path: Path, classes: Mapping[str, LatencySnapshot]) -> None:
        threads.append(threading.current_thread())

    monkeypatch.setattr(profile_store, "write_profile", write)

    async def main() -> None:
        catalog = ModelCatalog()
        store = ProfileStore(tmp_path / "profile.json", catalog.snapshots)
        store.start()
        learn(catalog)
        await store.stop()

    asyncio.run(main())
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


def test_stop_saves_at_once(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"

    async def main() -> None:
        catalog = ModelCatalog()
        store = ProfileStore(path, catalog.snapshots, interval_s=3600)
        await store.stop()  # before it was started
        store.start()
        learn(catalog)
        async with asyncio.timeout(5):
            await store.stop()
        assert read_profile(path) == catalog.snapshots()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_a_disk_that_fails_is_told_once_and_tried_again(
    tmp_path: Path, writes: list[float]
) -> None:
    path = tmp_path / "not_there" / "profile.json"

    async def main() -> None:
        catalog = ModelCatalog()
        store = ProfileStore(path, catalog.snapshots)
        store.start()
        learn(catalog)
        with capture_logs() as logs:
            await asyncio.sleep(200)
        assert writes == [60, 120, 180]
        assert [log["event"] for log in logs] == ["latency_profile_not_saved"]
        assert "No such file" in logs[0]["reason"]
        path.parent.mkdir()
        await store.stop()
        assert read_profile(path) == catalog.snapshots()

    run_virtual(main())


def test_a_damaged_file_is_renamed_and_ignored(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text('{"version": 1, "classes": {"k": 7}}')
    with capture_logs() as logs:
        assert load_profile(path) == {}
    assert [(log["event"], log["log_level"]) for log in logs] == [
        ("latency_profile_ignored", "warning")
    ]
    assert "$.classes" in logs[0]["reason"]
    assert logs[0]["renamed_to"] == f"{path}.bad"
    assert [each.name for each in tmp_path.iterdir()] == ["profile.json.bad"]


def test_a_damaged_file_that_cannot_be_renamed_is_ignored_too(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text("{")
    path.with_name("profile.json.bad").mkdir()
    with capture_logs() as logs:
        assert load_profile(path) == {}
    assert logs[0]["renamed_to"] == "could not be renamed"


def test_an_unreadable_file_is_left_alone(tmp_path: Path) -> None:
    with capture_logs() as logs:
        assert load_profile(tmp_path) == {}
    assert [log["event"] for log in logs] == ["latency_profile_unreadable"]
    assert tmp_path.is_dir()


def test_the_start_without_a_file_is_no_warning(tmp_path: Path) -> None:
    with capture_logs() as logs:
        assert load_profile(tmp_path / "none.json") == {}
    assert [log["log_level"] for log in logs] == ["info"]
