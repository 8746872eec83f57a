import pytest

from hfx_sgl.prompt import Prompt
from hfx_sgl.workload.limits import OutputLimit
from hfx_sgl.workload.segment_ids import SegmentIds
from hfx_sgl.workload.traces.prompts import cut


def test_ids_are_64_bits_and_all_different() -> None:
    ids = SegmentIds("0/chat/own")
    found = {ids.of(number) for number in range(10_000)}
    assert len(found) == 10_000
    assert all(0 <= segment_id < 2**64 for segment_id in found)
    assert max(found) > 2**63


def test_ids_depend_on_the_name() -> None:
    assert SegmentIds("0/chat/own").of(1) == SegmentIds("0/chat/own").of(1)
    assert SegmentIds("0/chat/own").of(1) != SegmentIds("1/chat/own").of(1)


@pytest.mark.parametrize(
    ("limit", "num_output_tokens", "expected"),
    [
        (OutputLimit(bound_tokens=1024), 10, 1024),
        (OutputLimit(bound_tokens=1024), 2000, 2000),
        (OutputLimit(multiple=1.5), 11, 17),
        (OutputLimit(bound_tokens=20, multiple=1.5), 11, 20),
        (OutputLimit(), 11, 11),
    ],
)
def test_a_client_allows_at_least_the_truth(
    limit: OutputLimit, num_output_tokens: int, expected: int
) -> None:
    assert limit.of(num_output_tokens) == expected


@pytest.mark.parametrize(
    ("max_tokens", "tokens"), [(30, (10, 20)), (29, (10, 19)), (10, (10,)), (3, (3,))]
)
def test_a_prompt_is_cut_at_its_end(max_tokens: int, tokens: tuple[int, ...]) -> None:
    prompt = cut(Prompt((1, 2), (10, 20)), max_tokens)
    assert prompt.segment_tokens == tokens
    assert prompt.segment_ids == (1, 2)[: len(tokens)]
