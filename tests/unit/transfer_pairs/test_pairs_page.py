"""The page on pairs says what the table of transitions says."""

from pathlib import Path

from hfx_sgl.policy.pairs.link import TRANSITIONS

PAGE = Path(__file__).parents[3] / "docs" / "pairs.md"


def test_the_page_lists_every_transition_in_the_order_of_the_table() -> None:
    states = {str(state) for state, _ in TRANSITIONS}
    rows = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[0] in states:
            rows.append(tuple(cells))
    assert rows == [(str(old), str(event), str(new)) for (old, event), new in TRANSITIONS.items()]
