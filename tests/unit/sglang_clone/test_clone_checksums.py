from collections.abc import Mapping

import pytest
from hfx_transfer.sglang.weights.checksums import difference, num_tensors

PLACE = ("target", 0, 0)
SOURCE = {PLACE: {"a": "1", "b": "2", "c": "3", "d": "4", "e": "5"}}


def changed(**tensors: str) -> dict[tuple[str, int, int], Mapping[str, str]]:
    return {PLACE: SOURCE[PLACE] | tensors}


def test_equal_weights_do_not_differ() -> None:
    assert difference(SOURCE, changed()) is None
    assert num_tensors(SOURCE) == 5


@pytest.mark.parametrize(
    ("clone", "said"),
    [
        (changed(b="9"), "1 of 5 tensors differ from the source's: b"),
        (
            changed(a="9", b="9", d="9", e="9"),
            "4 of 5 tensors differ from the source's: a, b, d, ...",
        ),
        (changed(z="1"), "1 of 5 tensors differ from the source's: z"),
        ({PLACE: {"a": "1"}}, "4 of 5 tensors differ from the source's: b, c, d, ..."),
        ({("target", 1, 0): SOURCE[PLACE]}, "it has ranks [('target', 1, 0)]"),
        ({}, "it has ranks []"),
    ],
)
def test_each_difference_is_named(
    clone: dict[tuple[str, int, int], Mapping[str, str]], said: str
) -> None:
    found = difference(SOURCE, clone)
    assert found is not None
    assert found.startswith(said)
