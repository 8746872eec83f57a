from pathlib import Path
from typing import Any

import pytest
from support.emulators import FlatStepTimes

from hfx_sgl.emulator.cli import main
from hfx_sgl.emulator.cluster import EmulatorShape, deal, plan_workers, router_command
from hfx_sgl.emulator.flags import parse_flags, read_shape
from hfx_sgl.engine.profile import EngineProfile
from hfx_sgl.errors import ConfigError
from hfx_sgl.types import Role


@pytest.fixture
def profile() -> EngineProfile:
    return EngineProfile(
        name="p",
        model="org/model",
        device="d",
        num_devices=2,
        source="s",
        kv_capacity_tokens=1000,
        kv_bytes_per_token=10,
        max_context_tokens=500,
        step_times=FlatStepTimes(),
    )


def test_a_pair_of_pools(profile: EngineProfile) -> None:
    workers = plan_workers(EmulatorShape(num_prefill=2, num_decode=1, base_port=22_000), profile)
    assert [(w.name, w.port, w.bootstrap_port) for w in workers] == [
        ("prefill-0", 22_000, 22_001),
        ("prefill-1", 22_010, 22_011),
        ("decode-0", 22_020, 22_021),
    ]
    assert [w.role for w in workers] == [Role.PREFILL, Role.PREFILL, Role.DECODE]
    assert workers[0].served_model_name == "org/model"
    assert router_command(workers) == (
        "hfx-router --pd-disaggregation --prefill http://127.0.0.1:22000 22001 "
        "--prefill http://127.0.0.1:22010 22011 --decode http://127.0.0.1:22020"
    )


def test_regular_workers(profile: EngineProfile) -> None:
    workers = plan_workers(EmulatorShape(num_regular=2, startup_s=3.0), profile)
    assert router_command(workers) == (
        "hfx-router --worker-urls http://127.0.0.1:21000 http://127.0.0.1:21010"
    )
    assert not workers[0].is_started
    assert workers[0].spec.startup_s == 3.0


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "workers"),
        ({"num_regular": -1, "num_prefill": 1}, "workers"),
        ({"num_regular": 1, "num_processes": 2}, "processes"),
        ({"num_regular": 1, "num_processes": 0}, "processes"),
        ({"num_regular": 1, "base_port": 80}, "base_port"),
        ({"num_regular": 100, "base_port": 32_000}, "base_port"),
        ({"num_regular": 1, "startup_s": -1.0}, "startup_s"),
    ],
)
def test_impossible_shapes(profile: EngineProfile, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        plan_workers(EmulatorShape(**changes), profile)


def test_workers_are_dealt_evenly() -> None:
    assert deal(5, 2) == [[0, 2, 4], [1, 3]]


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        ("--max-running-requests 7", "max_running_requests", 7),
        ("--chunked-prefill-size -1", "chunked_prefill_tokens", None),
        ("--chunked-prefill-size 512", "chunked_prefill_tokens", 512),
        ("--page-size 16", "page_tokens", 16),
        ("--max-total-tokens 900", "kv_capacity_tokens", 900),
        ("--enable-mixed-chunk", "has_mixed_chunk", True),
        ("--disable-radix-cache", "has_prefix_cache", False),
        ("--enable-priority-scheduling", "has_priority", True),
        ("--disable-priority-preemption", "has_preemption", False),
        ("--max-queued-requests 3", "max_queued_requests", 3),
        ("--handoff-bytes-per-s 2e9", "handoff_bytes_per_s", 2e9),
    ],
)
def test_flags_set_the_engine(profile: EngineProfile, flags: str, name: str, value: object) -> None:
    (worker,) = plan_workers(read_shape(parse_flags(flags.split())), profile)
    assert getattr(worker.spec, name) == value


@pytest.mark.parametrize(
    ("flags", "counts"),
    [
        ("", (1, 0, 0)),
        ("--workers 3", (3, 0, 0)),
        ("--prefill 2 --decode 1", (0, 2, 1)),
        ("--decode 1", (0, 0, 1)),
        ("--prefill 1 --decode 1 --workers 1", (1, 1, 1)),
    ],
)
def test_flags_set_the_shape(flags: str, counts: tuple[int, int, int]) -> None:
    shape = read_shape(parse_flags(flags.split()))
    assert (shape.num_regular, shape.num_prefill, shape.num_decode) == counts


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ("--workers 0", "workers"),
        ("--profile absent", "absent"),
        ("--max-running-requests 0", "max_running_requests"),
        ("--fault-error-rate 2", "error_rate"),
    ],
)
def test_bad_flags_end_with_two_and_a_line(
    flags: str, word: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(flags.split()) == 2
    captured = capsys.readouterr()
    assert word in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
