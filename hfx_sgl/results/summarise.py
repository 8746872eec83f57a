"""Sums up the records of a run."""

from collections.abc import Iterable, Mapping

from hfx_sgl.results.record import RequestRecord
from hfx_sgl.results.summary import ServingMetrics, Summary, WorstClass
from hfx_sgl.results.tally import Tally, merged


def summarise(
    records: Iterable[RequestRecord],
    duration_s: float | None = None,
    itls_s: Mapping[str, Iterable[float]] | None = None,
) -> Summary:
    """Return the figures of all `records`, overall and per class.

    Args:
        records: one for every arrival; read once.
        duration_s: over how long throughputs are taken; None: until the last answer ended.
        itls_s: per class the times between arrivals of output, for records that hold none of
            their own.
    """
    tallies: dict[str, Tally] = {}
    for record in records:
        tally = tallies.get(record.class_name)
        if tally is None:
            tally = tallies[record.class_name] = Tally()
        tally.add(record)
    for name, values in (itls_s or {}).items():
        if name in tallies:
            tallies[name].itls_s.extend(values)
    total = merged(tallies.values())
    over_s = total.last_end_s if duration_s is None else duration_s
    classes = {name: tallies[name].metrics(over_s) for name in sorted(tallies)}
    return Summary(
        overall=total.metrics(over_s), classes=classes, worst_class=_worst_class(classes)
    )


def _worst_class(classes: Mapping[str, ServingMetrics]) -> WorstClass | None:
    shares = [
        (metrics.slo_attainment, name)
        for name, metrics in classes.items()
        if metrics.slo_attainment is not None
    ]
    if not shares:
        return None
    attainment, name = min(shares)
    return WorstClass(name=name, slo_attainment=attainment)
