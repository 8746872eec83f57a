import pytest
from transfer_bench.crowd_plan import CrowdPlan, pulls
from transfer_bench.report import render
from transfer_bench.results import (
    SCHEMA,
    BenchRecord,
    Crowd,
    CrowdMeasurement,
    Machine,
    Measurement,
    Ratio,
    Settings,
    Spread,
    Verdict,
    Way,
)
from transfer_bench.summary import (
    crowd_rows_of,
    failures,
    ratios_of,
    rows_of,
    spread_of,
    verdicts_of,
    where_disk_wins,
)

SIZE = 1_000_000_000


def run(way: Way, seconds: float, index: int = 0, problem: str | None = None) -> Measurement:
    return Measurement(
        round_index=index, way=way, seconds=seconds, cpu_s=1.0, disk_bytes=0, problem=problem,
        note="",
    )  # fmt: skip


def crowd(
    kind: Crowd, num: int, seconds: float, index: int = 0, problem: str | None = None
) -> CrowdMeasurement:
    return CrowdMeasurement(
        round_index=index, crowd=kind, num_receivers=num, size_bytes=SIZE, seconds=seconds,
        cpu_s=0.5 * num, predicted_s=7.0 if num > 1 else 2.0, problem=problem, note="",
    )  # fmt: skip


def ratio(way: Way, baseline: Way, value: float) -> Ratio:
    return Ratio(way=way, baseline=baseline, spread=spread_of([value]))


def verdict(verdicts: list[Verdict], start: str) -> Verdict:
    (found,) = (each for each in verdicts if each.target.startswith(start))
    return found


def test_rows_have_medians_and_count_no_failed_run() -> None:
    runs = [run(Way.SOCKET, seconds, index) for index, seconds in enumerate([1.0, 4.0, 2.0])]
    (row,) = rows_of([*runs, run(Way.SOCKET, 0.001, 3, "broken")], SIZE)
    assert row.seconds == Spread(median=2.0, low=1.0, high=4.0, num=3)
    assert row.bytes_per_s.median == 5e8
    assert row.num_failed == 1


def test_a_way_that_always_failed_has_no_row() -> None:
    assert rows_of([run(Way.SHM, 0.0, 0, "broken")], SIZE) == []


def test_ratios_pair_the_rounds_in_which_both_count() -> None:
    runs = [
        run(Way.SOCKETS, 1.0, 0), run(Way.SOCKET, 2.0, 0),
        run(Way.SOCKETS, 9.0, 1), run(Way.SOCKET, 1.0, 1, "broken"),
        run(Way.SOCKETS, 3.0, 2), run(Way.SOCKET, 2.0, 2),
    ]  # fmt: skip
    (found,) = ratios_of(runs)
    assert (found.way, found.baseline) == (Way.SOCKET, Way.SOCKETS)
    assert found.spread == Spread(median=1.0, low=0.5, high=1.5, num=2)


@pytest.mark.parametrize(
    ("mooncake", "socket", "is_reached", "figure"),
    [(0.9, 0.5, True, "0.90x (mooncake)"), (0.5, 0.84, False, "0.84x (socket)")],
)
def test_the_better_way_over_tcp_is_judged(
    mooncake: float, socket: float, is_reached: bool, figure: str
) -> None:
    ratios = [ratio(Way.MOONCAKE, Way.SOCKETS, mooncake), ratio(Way.SOCKET, Way.SOCKETS, socket)]
    found = verdict(verdicts_of(ratios, [], 8), "over TCP, verified")
    assert (found.is_reached, found.figure) == (is_reached, figure)


def test_what_was_not_run_is_neither_reached_nor_missed() -> None:
    assert {each.is_reached for each in verdicts_of([], [], 8)} == {None}


def test_each_target_has_its_own_bound() -> None:
    ratios = [
        ratio(Way.SHM, Way.DISK_COLD, 15.0),
        ratio(Way.SHM_CHECKED, Way.DISK_COLD, 14.9),
        ratio(Way.SOCKET, Way.DISK_200, 8.9),
        ratio(Way.SHM, Way.DISK_200, 9.0),
    ]
    verdicts = verdicts_of(ratios, [], 8)
    assert verdict(verdicts, "shm, times disk cold").is_reached is True
    assert verdict(verdicts, "shm, digested again").is_reached is False
    assert verdict(verdicts, "over TCP, times disk").is_reached is False
    assert verdict(verdicts, "shm, times disk at 200").is_reached is True


def test_crowds_are_compared_with_one_of_the_same_round() -> None:
    runs = [
        crowd(Crowd.SHM, 1, 1.0, 0), crowd(Crowd.SHM, 8, 1.2, 0),
        crowd(Crowd.SHM, 1, 2.0, 1), crowd(Crowd.SHM, 8, 3.2, 1),
        crowd(Crowd.SHM, 1, 1.0, 2, "broken"), crowd(Crowd.SHM, 8, 9.0, 2),
    ]  # fmt: skip
    (row,) = crowd_rows_of(runs, num_cpus=2)
    assert row.num_receivers == 8
    assert row.ratio.num == 2
    assert row.ratio.median == pytest.approx(1.4)
    # 4 s of processor time over two cores, against 1 and 2 s.
    assert row.cpu_limit.median == pytest.approx((2.0 + 1.0) / 2)
    found = verdict(verdicts_of([], [row], 8), "8 receivers over shm, times one")
    assert (found.is_reached, found.figure) == (True, "1.40x")


@pytest.mark.parametrize(("seconds", "is_reached"), [(1.5, True), (1.6, False)])
def test_a_missed_crowd_says_what_the_processors_allow(seconds: float, is_reached: bool) -> None:
    runs = [crowd(Crowd.LINKS_PLAN, 1, 1.0), crowd(Crowd.LINKS_PLAN, 8, seconds)]
    (row,) = crowd_rows_of(runs, num_cpus=4)
    found = verdict(verdicts_of([], [row], 8), "8 receivers as planned, over limited")
    assert found.is_reached is is_reached
    assert ("processors allow 1.00x" in found.figure) is not is_reached
    assert row.predicted_s == 7.0


def test_disk_wins_where_ours_is_slower_than_any_disk() -> None:
    ratios = [
        ratio(Way.SOCKET, Way.DISK_WARM, 0.8),
        ratio(Way.SOCKET, Way.DISK_COLD, 1.2),
        ratio(Way.SOCKET, Way.MEMCPY, 0.4),
    ]
    assert where_disk_wins(ratios) == [ratios[0]]


def record(measurements: list[Measurement], crowds: list[CrowdMeasurement]) -> BenchRecord:
    ratios, rows = ratios_of(measurements), crowd_rows_of(crowds, 2)
    return BenchRecord(
        schema=SCHEMA, started_at="2026-01-01T00:00:00+00:00", commit="abc", is_dirty=True,
        machine=Machine(
            cpu_model="some", num_cpus=2, memory_bytes=1, kernel="6", python="3.11", disk="vda"
        ),
        settings=Settings(
            num_rounds=2, num_crowd_rounds=1, size_bytes=1 << 30, num_tensors=160,
            num_receivers=8, link_bytes_per_s=5e7, link_size_bytes=1 << 28, only=[],
        ),
        load_average_start=(1.0, 1.0, 1.0), load_average_end=(2.0, 2.0, 2.0),
        stolen_cpu_ratio=0.01, not_run={"cuda": "no CUDA device"},
        measurements=measurements, crowd_measurements=crowds, rows=rows_of(measurements, SIZE),
        ratios=ratios, crowd_rows=rows, verdicts=verdicts_of(ratios, rows, 8),
    )  # fmt: skip


def test_the_page_says_what_was_missed_what_failed_and_where_disk_wins() -> None:
    runs = [run(Way.SOCKET, 2.0), run(Way.DISK_WARM, 1.0), run(Way.SHM, 0.0, 1, "broken")]
    crowds = [crowd(Crowd.LINKS_PLAN, 1, 1.0), crowd(Crowd.LINKS_PLAN, 8, 1.2)]
    page = render(record(runs, crowds))
    assert "cuda not run: no CUDA device" in page
    assert "round 2, shm: broken" in page
    assert "disk warm (page cache), safetensors is faster than socket: socket reaches 0.50x" in page
    assert "1 GiB in 160 tensors" in page
    assert "at most 50 MB/s leave" in page
    assert "| over TCP, verified, of raw sockets | 0.85x | not run | not run |" in page
    assert list(failures(runs, crowds)) == ["round 2, shm: broken"]


HOSTS = [f"127.0.0.{i}" for i in range(11, 20)]
PLAN = CrowdPlan(num_receivers=8, num_rounds=1, link_bytes_per_s=5e7, link_size_bytes=1 << 28)


def test_over_limited_links_receivers_form_the_planned_chain() -> None:
    ports = list(range(21_000, 21_008))
    found = pulls(PLAN, Crowd.LINKS_PLAN, 1 << 28, "http://source", HOSTS, ports)
    assert found.shape == "chain"
    assert found.pulls[0].url == "http://source"
    for before, pull, port in zip(found.pulls, found.pulls[1:], ports, strict=False):
        assert pull.url == f"http://{before.host}:{port}"
        assert before.port == port
    assert found.pulls[-1].port is None, "nobody pulls from the last one"
    # 256 MiB at 50 MB/s take 5.4 s; each hop adds a chunk of 8 MiB.
    assert found.predicted_s == pytest.approx((2**28 + 7 * 2**23) / 5e7, rel=0.01)


@pytest.mark.parametrize("kind", [Crowd.SHM, Crowd.SHM_CHECKED, Crowd.TCP_STAR, Crowd.LINKS_STAR])
def test_in_a_star_all_pull_from_the_source(kind: Crowd) -> None:
    found = pulls(PLAN, kind, 1 << 28, "http://source", HOSTS, [21_000, 21_001])
    assert {pull.url for pull in found.pulls} == {"http://source"}
    assert {pull.port for pull in found.pulls} == {None}
    assert [pull.host for pull in found.pulls] == HOSTS[1:3]
