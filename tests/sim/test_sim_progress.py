"""The progress line: seldom into a file, often and in place on a terminal."""

import io

import pytest

from hfx_sgl.clock import FakeClock
from hfx_sgl.sim.progress import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "num_lines"), [(io.StringIO(), 3), (Terminal(), 150)])
def test_lines_come_as_often_as_somebody_can_read_them(stream: io.StringIO, num_lines: int) -> None:
    clock = FakeClock()
    line = ProgressLine(stream, clock)
    for step in range(1, 601):
        clock.advance(0.0625)
        line.show(step * 1000, step * 0.625)
    line.close()
    text = stream.getvalue()
    assert text.count("requests done") == num_lines
    assert text.count("\r\x1b[K") == (num_lines if stream.isatty() else 0)
    assert text.endswith("\n")
    assert "16,000 requests/s, 10x real time" in text


def test_a_short_run_shows_nothing() -> None:
    stream = Terminal()
    line = ProgressLine(stream, FakeClock())
    line.show(256, 10.0)
    line.close()
    assert stream.getvalue() == ""
