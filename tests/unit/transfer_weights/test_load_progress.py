import pytest
from hfx_transfer.weights.progress import LoadProgress, SourceReport, bar
from hfx_transfer.weights.source_state import SourceState


@pytest.mark.parametrize(
    ("num_bytes", "rate", "expected"),
    [
        (0, 0.0, "[........]   0% 0.00/4.00 GB 0.00 GB/s, 1 source"),
        (1_000_000_000, 1e9, "[##......]  25% 1.00/4.00 GB 1.00 GB/s, 1 source, 3 s left"),
        (4_000_000_000, 2e9, "[########] 100% 4.00/4.00 GB 2.00 GB/s, 1 source"),
    ],
)
def test_bar(num_bytes: int, rate: float, expected: str) -> None:
    progress = LoadProgress(num_bytes=num_bytes, total_bytes=4_000_000_000, num_sources=1)
    assert bar(progress, bytes_per_s=rate, width=8) == expected


def test_bar_of_nothing() -> None:
    progress = LoadProgress(num_bytes=0, total_bytes=0, num_sources=2)
    assert bar(progress, bytes_per_s=0.0, width=2).startswith("[##] 100%")
    assert bar(progress, bytes_per_s=0.0).endswith("2 sources")


def test_report_says_what_is_known() -> None:
    report = SourceReport(
        url="http://a", state=SourceState.FAILED, transport="socket (tcp)", num_bytes=7,
        reason="stalled: no byte moved",
    )  # fmt: skip
    assert str(report) == "http://a: failed, 7 bytes by socket (tcp) (stalled: no byte moved)"
    unused = SourceReport(
        url="http://b", state=SourceState.UNUSED, transport=None, num_bytes=0, reason=None
    )
    assert str(unused) == "http://b: unused"
