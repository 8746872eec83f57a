import math
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfx_sgl.engine.link import SharedLink

BYTES_PER_S = 64
LATENCY_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Bytes that it gets at some instants, then its end."""

    chunks: tuple[tuple[float, int], ...]
    closed_at_s: float
    cancelled_at_s: float = math.inf


@st.composite
def transfers(draw: st.DrawFn) -> Transfer:
    instants = st.integers(0, 40).map(lambda n: n / 8)
    chunks = sorted(draw(st.lists(st.tuples(instants, st.integers(0, 90)), min_size=1, max_size=4)))
    closed_at_s = chunks[-1][0] + draw(st.sampled_from([0.0, 0.125, 2.0]))
    # At no instant at which anything else happens.
    after_s = draw(st.sampled_from([math.inf, math.inf, 0.0371, 1.0371, 3.0371]))
    return Transfer(
        chunks=tuple(chunks), closed_at_s=closed_at_s, cancelled_at_s=chunks[0][0] + after_s
    )


def exact_completions(scripts: list[Transfer]) -> dict[str, Fraction]:
    """Share the link piece by piece, in rational numbers."""
    left = [Fraction(0) for _ in scripts]
    sent_at = [Fraction(script.chunks[0][0]) for script in scripts]
    instants = {at_s for script in scripts for at_s, _ in script.chunks}
    instants |= {s.cancelled_at_s for s in scripts if s.cancelled_at_s < math.inf}
    now = Fraction(0)
    for until in [*map(Fraction, sorted(instants)), Fraction(10**6)]:
        while any(left) and now < until:
            rate = Fraction(BYTES_PER_S, sum(1 for b in left if b))
            passed = min(until - now, min(b for b in left if b) / rate)
            now += passed
            for i, num_bytes in enumerate(left):
                if num_bytes:
                    left[i] -= passed * rate
                    sent_at[i] = now
        now = until
        for i, script in enumerate(scripts):
            if script.cancelled_at_s <= now:
                left[i] = Fraction(0)
            else:
                left[i] += sum(num_bytes for at_s, num_bytes in script.chunks if at_s == now)
    done_at = {
        str(i): max(sent_at[i], Fraction(script.closed_at_s)) + Fraction(LATENCY_S)
        for i, script in enumerate(scripts)
    }
    return {i: at for i, at in done_at.items() if at < scripts[int(i)].cancelled_at_s}


def drive(scripts: list[Transfer], *, follows_link: bool) -> list[tuple[float, str]]:
    """Play the scripts; with `follows_link`, also stop where the link says that it is due."""
    link = SharedLink(BYTES_PER_S, LATENCY_S)
    completions: list[tuple[float, str]] = []

    def pass_time(until_s: float) -> None:
        num_calls = 0
        while follows_link and (due_s := link.next_completion_s()) <= until_s:
            new = link.advance(due_s)
            assert all(at_s == due_s for at_s, _ in new), "none was due before"
            completions.extend(new)
            num_calls += 1
            assert num_calls <= 2 * len(scripts), "each call gets on"
        completions.extend(link.advance(until_s))

    steps: list[tuple[float, int, str, int]] = []
    for i, script in enumerate(scripts):
        at_s, num_bytes = script.chunks[0]
        steps.append((at_s, i, "start", num_bytes))
        steps += [(at_s, i, "more", num_bytes) for at_s, num_bytes in script.chunks[1:]]
        steps.append((script.closed_at_s, i, "close", 0))
        steps.append((script.cancelled_at_s, i, "cancel", 0))
    # By time only: the steps of one transfer stay in their order.
    for at_s, i, what, num_bytes in sorted(steps, key=lambda step: step[0]):
        if at_s == math.inf or (at_s > scripts[i].cancelled_at_s):
            continue
        pass_time(at_s)
        transfer_id = str(i)
        if what == "start":
            link.start(transfer_id, num_bytes, at_s)
        elif what == "more":
            link.add_bytes(transfer_id, num_bytes, at_s)
        elif what == "close":
            link.close(transfer_id, at_s)
        elif all(done != transfer_id for _, done in completions):
            link.cancel(transfer_id, at_s)
    pass_time(1000.0)
    assert link.num_transfers == 0
    assert link.next_completion_s() == math.inf
    return completions


@settings(max_examples=200, deadline=None)
@given(scripts=st.lists(transfers(), min_size=1, max_size=6))
def test_each_completes_when_its_share_has_carried_it(scripts: list[Transfer]) -> None:
    completions = drive(scripts, follows_link=False)
    exact = exact_completions(scripts)
    assert [at_s for at_s, _ in completions] == sorted(at_s for at_s, _ in completions)
    assert {i: at_s for at_s, i in completions} == pytest.approx(
        {i: float(at) for i, at in exact.items()}, rel=1e-12
    )
    assert drive(scripts, follows_link=True) == completions
