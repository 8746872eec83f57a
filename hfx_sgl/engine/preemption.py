"""Who gives way: to a request of higher priority, and when the memory runs out."""

from collections.abc import Callable, Iterable

from hfx_sgl.engine.sequence import Sequence


def preemption_victims(
    candidate: Sequence,
    running: Iterable[Sequence],
    *,
    threshold: int,
    num_missing_tokens: float,
    expected_tokens: Callable[[Sequence], float],
) -> list[Sequence]:
    """Return which running sequences give way to a candidate; none if it would not help.

    The lowest priority first, among equals the one that has waited last. Each must be lower than
    the candidate's by more than the threshold. At least one goes; more until what they were
    expected to need covers the candidate's missing memory.
    """
    limit = candidate.priority - threshold
    eligible = [sequence for sequence in running if sequence.priority < limit]
    eligible.sort(key=lambda sequence: (sequence.priority, -sequence.entry_no))
    victims = []
    for sequence in eligible:
        victims.append(sequence)
        num_missing_tokens -= expected_tokens(sequence)
        if num_missing_tokens <= 0:
            return victims
    return []


def retraction_order(running: Iterable[Sequence]) -> list[Sequence]:
    """Return running sequences in the order in which they are retracted when memory runs out.

    Those with the fewest output tokens first, among equals those with the longest prompt.
    `num_outputs` must be up to date.
    """
    order = sorted(
        running,
        key=lambda sequence: (sequence.num_outputs, -sequence.num_prompt_tokens),
        reverse=True,
    )
    order.reverse()
    return order
