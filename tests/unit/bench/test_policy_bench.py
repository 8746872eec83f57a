"""The benchmark of decisions: what it prints, and how it judges."""

import re

import pytest
from policy_bench.cli import main
from policy_bench.measure import measure, whole_life
from policy_bench.scene import Scene


def test_prints_every_point_and_the_targets(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--workers", "2,6", "--queue", "0,30", "--rounds", "20"])
    printed = capsys.readouterr().out
    points = re.findall(r"^ +(\d+) +(\d+) +\d", printed, re.MULTILINE)
    assert points == [("2", "0"), ("2", "30"), ("6", "0"), ("6", "30")]
    assert re.search(r"^6 workers, 30 waiting: \d+ us, (met|missed)", printed, re.MULTILINE)
    assert code == ("missed" in printed.split("6 workers, 30 waiting")[1])


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--rounds", "3"], "--rounds: must be at least 20 (got 3)"),
        (["--workers", "1"], "--workers: must be at least 2 (got 1)"),
        (["--queue", "-4"], "--queue: must be at least 0 (got -4)"),
    ],
)
def test_bad_flags_are_named(
    flags: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize("is_pd", [True, False])
def test_the_scene_is_what_it_is_called(is_pd: bool) -> None:
    scene = Scene(8, is_pd, seed=1)
    scene.fill(50)
    assert 50 <= scene.num_waiting <= 51
    sent = scene.num_sent
    assert sent >= (4 if is_pd else 8)
    while scene.next_prefilled() is None:
        scene.take(scene.scheduler.decide(scene.now_s))
    assert scene.now_s > 1000.0


@pytest.mark.parametrize("is_pd", [True, False])
def test_every_kind_of_call_is_timed(is_pd: bool) -> None:
    cell = measure(4, 20, is_pd, 30)
    for cost in (cell.arrival, cell.send, cell.end, whole_life(4, is_pd, 30)):
        assert 0 < cost.median_us <= cost.p99_us
