"""The names, types and labels of sglang-router, and the page that lists all of ours."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "metrics.md"


class Entry(NamedTuple):
    type: str
    labels: frozenset[str]


def read_contract(name: str) -> dict[str, Entry]:
    entries = {}
    for line in (HERE / name).read_text().splitlines():
        if line.startswith("smg_"):
            family, kind, *labels = line.split()
            entries[family] = Entry(kind, frozenset(",".join(labels).split(",")) - {""})
    return entries


def read_page() -> list[tuple[str, Entry]]:
    entries = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        # Those of hfx_transfer have a collector of their own.
        is_ours = cells[0].startswith(("`smg_", "`hfx_")) and not cells[0].startswith("`hfx_tran")
        if is_ours and len(cells) > 3:
            labels = frozenset(cells[2].replace("`", "").replace(",", " ").split())
            entries.append((cells[0].strip("`"), Entry(cells[1], labels)))
    return entries


@pytest.fixture
def exported(full_bench: Any) -> dict[str, Entry]:
    entries = {}
    for name, family in full_bench.families().items():
        label_sets = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        assert len(label_sets) == 1, f"{name}: {label_sets or 'no sample to check'}"
        entries[name] = Entry(family.type, label_sets.pop())
    return entries


def test_exported_names_types_and_labels_are_those_of_sglang_router(
    exported: dict[str, Entry],
) -> None:
    contract = read_contract("contract_sglang_router.txt")
    assert len(contract) == 20
    contract |= read_contract("contract_sglang_router_more.txt")
    # A summary cannot be added up over routers; these are exported as histograms.
    expected = {
        name: entry._replace(type="histogram") if entry.type == "summary" else entry
        for name, entry in contract.items()
    }
    assert {n: e for n, e in exported.items() if n.startswith("smg_")} == expected


def test_everything_else_carries_our_prefix(exported: dict[str, Entry]) -> None:
    assert all(name.startswith(("smg_", "hfx_")) for name in exported)


def test_the_page_lists_exactly_the_exported_families(exported: dict[str, Entry]) -> None:
    listed = read_page()
    assert dict(listed) == exported
    assert len(listed) == len(exported), "a family is listed twice"


def test_every_family_is_announced_before_it_has_samples(
    bench: Any, exported: dict[str, Entry]
) -> None:
    assert {name: family.type for name, family in bench.families().items()} == {
        name: entry.type for name, entry in exported.items()
    }
