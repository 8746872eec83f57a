from collections.abc import Iterator
from pathlib import Path

import pytest
from support.launchpad import Launchpad


@pytest.fixture
def launchpad(tmp_path: Path) -> Iterator[Launchpad]:
    pad = Launchpad(tmp_path)
    yield pad
    left_over = pad.left_over()
    for process in left_over:
        process.kill()
    assert left_over == [], "the test left processes behind"
