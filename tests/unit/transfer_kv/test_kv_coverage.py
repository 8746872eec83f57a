import pytest
from hfx_transfer.kv.coverage import Piece, coverage_problem


def pieces(*spans: tuple[int, int, int]) -> list[Piece]:
    return [Piece(layer, first, num, b"") for layer, first, num in spans]


@pytest.mark.parametrize(
    "spans",
    [
        [(0, 0, 5), (1, 0, 5)],
        [(1, 3, 2), (0, 0, 5), (1, 0, 3)],
        [(0, 0, 1), (0, 1, 4), (1, 0, 5)],
    ],
)
def test_each_token_of_each_layer_once_is_all(spans: list[tuple[int, int, int]]) -> None:
    assert coverage_problem(pieces(*spans), num_layers=2, num_tokens=5) is None


@pytest.mark.parametrize(
    ("spans", "problem"),
    [
        ([(0, 0, 5)], "layer 1 has 0 of 5 tokens"),
        ([(0, 0, 5), (1, 0, 4)], "layer 1 has 4 of 5 tokens"),
        ([(0, 0, 5), (1, 0, 6)], "layer 1 has 6 of 5 tokens"),
        ([(0, 0, 5), (1, 0, 3), (1, 2, 2)], "layer 1: a piece begins at token 2 where 3 is next"),
        ([(0, 0, 5), (1, 1, 4)], "layer 1: a piece begins at token 1 where 0 is next"),
        ([(0, 0, 5), (1, 0, 5), (1, 5, 0)], "layer 1: a piece begins at token 5"),
        ([(0, 0, 5), (2, 0, 5)], "there is no layer 2"),
    ],
)
def test_gaps_overlaps_and_strange_layers_are_named(
    spans: list[tuple[int, int, int]], problem: str
) -> None:
    found = coverage_problem(pieces(*spans), num_layers=2, num_tokens=5)
    assert found is not None
    assert found.startswith(problem)
