from hypothesis import given, settings
from hypothesis import strategies as st

from hfx_sgl.policy.fakes import make_workers
from hfx_sgl.policy.prefix_index import BLOCK_BYTES, PrefixIndex, block_digests

WORKERS = make_workers(0, 0, 0)

# Prompts of few distinct blocks, so that they share beginnings; the tail is a partial block.
PROMPTS = st.builds(
    lambda blocks, tail: b"".join(bytes([b]) * BLOCK_BYTES for b in blocks) + bytes(tail),
    st.lists(st.integers(1, 3), max_size=12),
    st.integers(0, BLOCK_BYTES - 1),
)
CALLS = st.lists(st.tuples(st.sampled_from(["w0", "w1", "w2"]), PROMPTS), max_size=40)


def common_blocks(one: bytes, other: bytes) -> int:
    num = 0
    while (
        (num + 1) * BLOCK_BYTES <= min(len(one), len(other))
        and one[: (num + 1) * BLOCK_BYTES] == other[: (num + 1) * BLOCK_BYTES]
    ):  # fmt: skip
        num += 1
    return num


@settings(max_examples=80, deadline=None)
@given(calls=CALLS, probe=PROMPTS)
def test_with_room_the_match_is_exactly_the_longest_common_beginning(
    calls: list[tuple[str, bytes]], probe: bytes
) -> None:
    index = PrefixIndex(1 << 30, 60.0)
    for worker_id, prompt in calls:
        index.remember(worker_id, block_digests(prompt))
    for worker in WORKERS:
        sent = [prompt for worker_id, prompt in calls if worker_id == worker.worker_id]
        expected = max((common_blocks(probe, prompt) for prompt in sent), default=0)
        assert index.best_match(block_digests(probe), [worker])[0] == expected


@settings(max_examples=80, deadline=None)
@given(calls=CALLS, probe=PROMPTS, max_blocks=st.integers(0, 40))
def test_any_bound_is_kept_and_matches_stay_true(
    calls: list[tuple[str, bytes]], probe: bytes, max_blocks: int
) -> None:
    index = PrefixIndex(max_blocks * BLOCK_BYTES, 5.0)
    for now, (worker_id, prompt) in enumerate(calls):
        index.maintain(float(now))
        index.remember(worker_id, block_digests(prompt))
        assert index.num_chars(worker_id) <= max_blocks * BLOCK_BYTES
    for worker in WORKERS:
        depth, holders = index.best_match(block_digests(probe), [worker])
        assert holders == ([worker] if depth else [])
        assert depth * BLOCK_BYTES <= len(probe)
        sent = [prompt for worker_id, prompt in calls if worker_id == worker.worker_id]
        assert depth <= max((common_blocks(probe, prompt) for prompt in sent), default=0)


@settings(max_examples=50, deadline=None)
@given(calls=CALLS, max_blocks=st.integers(0, 40))
def test_forget_removes_everything(calls: list[tuple[str, bytes]], max_blocks: int) -> None:
    index = PrefixIndex(max_blocks * BLOCK_BYTES, 5.0)
    for worker_id, prompt in calls:
        index.remember(worker_id, block_digests(prompt))
    for worker in WORKERS:
        index.forget(worker.worker_id)
        assert index.num_chars(worker.worker_id) == 0
    for _, prompt in calls:
        assert index.best_match(block_digests(prompt), WORKERS) == (0, [])
    for now in range(len(calls) * 12 + 3):
        index.maintain(float(now))
    assert index.num_retired_chars() == 0


@settings(max_examples=50, deadline=None)
@given(calls=CALLS, probe=PROMPTS)
def test_best_of_many_is_the_best_of_each(calls: list[tuple[str, bytes]], probe: bytes) -> None:
    index = PrefixIndex(1 << 30, 60.0)
    for worker_id, prompt in calls:
        index.remember(worker_id, block_digests(prompt))
    digests = block_digests(probe)
    alone = [index.best_match(digests, [worker])[0] for worker in WORKERS]
    best, holders = index.best_match(digests, WORKERS)
    assert best == max(alone)
    expected = [w for w, depth in zip(WORKERS, alone, strict=True) if depth == best > 0]
    assert holders == expected
