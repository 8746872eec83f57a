"""The hfx_transfer_* families: what they count, and that the page lists them."""

from pathlib import Path

import pytest
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.metrics import MAX_NAMED_LINKS, LinkCensus, LinkReading, TransferMetrics
from hfx_transfer.observer import (
    NO_OBSERVER,
    Direction,
    ProbeOutcome,
    TransferKind,
    TransferObserver,
)
from prometheus_client import CollectorRegistry, generate_latest

from hfx_sgl.errors import TransferFault

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def census(num_wrong: int = 1) -> LinkCensus:
    return LinkCensus(
        counts={"ok": 3, "down": num_wrong},
        changes={("ok", "suspect"): 2},
        remarkable=[LinkReading(f"http://p{n}", "http://d", "down") for n in range(num_wrong)],
    )


def tell_everything(observer: TransferObserver) -> None:
    observer.moved(Backend.SOCKET, Direction.IN, 1000)
    observer.moved(Backend.SOCKET, Direction.IN, 24)
    observer.moved(Backend.SHM, Direction.OUT, 5)
    observer.chunk_failed(Backend.MOONCAKE, TransferFault.STALLED)
    observer.transfer_ended(TransferKind.WEIGHTS, None, 2.0)
    observer.transfer_ended(TransferKind.KV, TransferFault.ABORTED, 0.5)
    observer.sources(3)
    observer.leases(2)
    observer.probed(ProbeOutcome.REACHED)
    observer.handed_over(0.01, 0.02)


def test_what_was_told_is_what_is_counted() -> None:
    registry = CollectorRegistry()
    tell_everything(TransferMetrics(registry, census))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("hfx_transfer_bytes_total", backend="socket", direction="in") == 1024
    assert value("hfx_transfer_bytes_total", backend="shm", direction="out") == 5
    assert value("hfx_transfer_chunk_failures_total", backend="mooncake", fault="stalled") == 1
    assert value("hfx_transfer_duration_seconds_sum", kind="weights", outcome="ok") == 2.0
    assert value("hfx_transfer_duration_seconds_sum", kind="kv", outcome="aborted") == 0.5
    assert value("hfx_transfer_sources") == 3
    assert value("hfx_transfer_leases") == 2
    assert value("hfx_transfer_probes_total", outcome="reached") == 1
    assert value("hfx_transfer_handoff_seconds_sum", kind="predicted") == 0.01
    assert value("hfx_transfer_handoff_seconds_sum", kind="observed") == 0.02
    assert value("hfx_transfer_links", state="ok") == 3
    labels = {"from": "ok", "to": "suspect"}
    assert registry.get_sample_value("hfx_transfer_link_changes_total", labels) == 2
    assert value("hfx_transfer_link_state", prefill="http://p0", decode="http://d", state="down")


def test_a_fleet_full_of_broken_links_is_named_up_to_a_limit() -> None:
    registry = CollectorRegistry()
    TransferMetrics(registry, lambda: census(10 * MAX_NAMED_LINKS))
    text = generate_latest(registry).decode()
    assert text.count("hfx_transfer_link_state{") == MAX_NAMED_LINKS
    assert f'hfx_transfer_links{{state="down"}} {10 * MAX_NAMED_LINKS}.0' in text


def test_two_records_of_one_worker_make_one_series() -> None:
    registry = CollectorRegistry()
    twice = [LinkReading("http://p", "http://d", state) for state in ("down", "suspect")]
    TransferMetrics(registry, lambda: LinkCensus({}, {}, twice))
    text = generate_latest(registry).decode()
    assert text.count("hfx_transfer_link_state{") == 1
    assert 'state="down"' in text


def test_nothing_tells_when_a_series_began() -> None:
    registry = CollectorRegistry()
    tell_everything(TransferMetrics(registry))
    assert "_created" not in generate_latest(registry).decode()


def test_without_an_observer_nothing_happens() -> None:
    tell_everything(NO_OBSERVER)


@pytest.fixture
def listed() -> dict[str, tuple[str, frozenset[str]]]:
    rows = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].startswith("`hfx_transfer_"):
            labels = frozenset(cells[2].replace("`", "").replace(",", " ").split())
            rows[cells[0].strip("`")] = (cells[1], labels)
    return rows


def test_the_page_lists_exactly_these_families(
    listed: dict[str, tuple[str, frozenset[str]]],
) -> None:
    registry = CollectorRegistry()
    tell_everything(TransferMetrics(registry, census))
    exported = {}
    for family in registry.collect():
        (labels,) = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        exported[name] = (family.type, labels)
    assert listed == exported
