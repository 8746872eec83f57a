import pytest
from support.engine_rig import make_request

from hfx_sgl.engine.new_token_ratio import NUM_DECAY_STEPS, NewTokenRatio
from hfx_sgl.engine.preemption import preemption_victims, retraction_order
from hfx_sgl.engine.sequence import Sequence, SequenceState


def make_sequence(
    name: str, *, prompt: int = 10, produced: int = 0, priority: int = 0, entry_no: int = 0
) -> Sequence:
    request = make_request(name, prompt, 100, priority=priority)
    sequence = Sequence(request, 100, SequenceState.RUNNING, 0.0)
    sequence.num_outputs = produced
    sequence.entry_no = entry_no
    return sequence


def names(sequences: list[Sequence]) -> str:
    return "".join(sequence.request_id for sequence in sequences)


def test_few_outputs_and_then_a_long_prompt_are_retracted_first() -> None:
    running = [
        make_sequence("a", produced=5, prompt=99),
        make_sequence("b", produced=3, prompt=10),
        make_sequence("c", produced=3, prompt=50),
        make_sequence("d", produced=9),
    ]
    assert names(retraction_order(running)) == "cbad"


RUNNING = [
    make_sequence("a", priority=1, entry_no=0),
    make_sequence("b", priority=0, entry_no=1),
    make_sequence("c", priority=0, entry_no=2),
    make_sequence("d", priority=5, entry_no=3),
]


@pytest.mark.parametrize(
    ("priority", "threshold", "num_missing", "victims"),
    [
        (9, 3, -50, "c"),
        (9, 3, 10, "c"),
        (9, 3, 11, "cb"),
        (9, 3, 35, "cbad"),
        (9, 3, 41, ""),
        (9, 4, 31, ""),
        (1, 0, -5, "c"),
        (1, 1, -5, ""),
        (0, 0, -5, ""),
    ],
)
def test_lower_and_newer_ones_give_way(
    priority: int, threshold: int, num_missing: int, victims: str
) -> None:
    chosen = preemption_victims(
        make_sequence("x", priority=priority),
        RUNNING,
        threshold=threshold,
        num_missing_tokens=num_missing,
        expected_tokens=lambda sequence: 10,
    )
    assert names(chosen) == victims


def test_less_is_expected_with_each_step() -> None:
    ratio = NewTokenRatio(1.0)
    assert ratio.current == pytest.approx(0.7)
    ratio.decay(300)
    assert ratio.current == pytest.approx(0.7 * (1 + 0.14) / 2)
    assert ratio.is_decaying
    ratio.decay(301)
    assert ratio.current == pytest.approx(0.7 * 0.14)
    assert not ratio.is_decaying
    ratio.reset()
    assert ratio.current == pytest.approx(0.7)


def test_it_does_not_matter_how_many_steps_are_counted_at_once() -> None:
    one_by_one, at_once = NewTokenRatio(0.3), NewTokenRatio(0.3)
    for _ in range(NUM_DECAY_STEPS):
        one_by_one.decay(1)
    at_once.decay(NUM_DECAY_STEPS)
    assert one_by_one.current == at_once.current
    assert one_by_one.is_decaying == at_once.is_decaying


def test_more_is_expected_after_a_retraction() -> None:
    ratio = NewTokenRatio(1.0)
    ratio.raise_for([make_sequence("a", produced=30), make_sequence("b", produced=10)])
    assert ratio.current == pytest.approx((40 + 2 * 20) / 201)
    ratio.raise_for([make_sequence("a", produced=95)])
    assert ratio.current == 1.0


@pytest.mark.parametrize(("conservativeness", "initial"), [(0.0, 0.0), (0.5, 0.35), (2.0, 1.0)])
def test_conservativeness_scales_what_is_expected(conservativeness: float, initial: float) -> None:
    assert NewTokenRatio(conservativeness).current == pytest.approx(initial)
