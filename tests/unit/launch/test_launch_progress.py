import io

from hfx_sgl.clock import FakeClock
from hfx_sgl.launch.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_unchanged_state_is_repeated_only_every_ten_seconds() -> None:
    stream, clock = io.StringIO(), FakeClock()
    progress = Progress(stream, clock)
    for _ in range(25):
        progress.show("decode-0 starting")
        clock.advance(1.0)
    progress.show("decode-0 ready")
    assert stream.getvalue().splitlines() == [
        "[   0 s] decode-0 starting",
        "[  10 s] decode-0 starting",
        "[  20 s] decode-0 starting",
        "[  25 s] decode-0 ready",
    ]


def test_a_terminal_keeps_one_line_and_then_the_outcome() -> None:
    stream, clock = Terminal(), FakeClock()
    progress = Progress(stream, clock)
    progress.show("starting")
    clock.advance(3.0)
    progress.show("starting")
    progress.finish("ready")
    assert stream.getvalue() == (
        "\r\x1b[K[   0 s] starting\r\x1b[K[   3 s] starting\r\x1b[K[   3 s] ready\n"
    )


def test_a_note_does_not_overwrite_the_open_line() -> None:
    stream = Terminal()
    progress = Progress(stream, FakeClock())
    progress.show("starting")
    progress.note("decode-0 ended")
    assert stream.getvalue() == "\r\x1b[K[   0 s] starting\ndecode-0 ended\n"
