import pytest

from hfx_sgl.policy.estimates.kv_blocks import BlockIndex, RemovedBlocks, StoredBlocks

TOKENS = list(range(1000, 1032))


def run_of(
    tokens: list[int], first_hash: int, parent: int | None = None, block_tokens: int = 4
) -> StoredBlocks:
    num_blocks = len(tokens) // block_tokens
    return StoredBlocks(
        block_hashes=list(range(first_hash, first_hash + num_blocks)),
        parent_hash=parent,
        token_ids=tokens,
    )


def index_of(*worker_ids: str, block_tokens: int = 4) -> BlockIndex:
    """Return an index of workers with empty caches."""
    index = BlockIndex()
    for worker_id in worker_ids:
        index.add_worker(worker_id, block_tokens)
        index.cleared(worker_id)
    return index


@pytest.mark.parametrize("num_asked", [0, 3, 4, 5, 16, 31, 32, 40])
def test_whole_blocks_count(num_asked: int) -> None:
    index = index_of("w")
    index.stored("w", run_of(TOKENS, 0))
    asked = [*TOKENS, 1, 2, 3, 4, 5, 6, 7, 8][:num_asked]
    assert index.cached_tokens("w", asked) == min(num_asked // 4 * 4, len(TOKENS))


def test_a_block_counts_only_as_the_continuation_of_its_own_beginning() -> None:
    index = index_of("w")
    index.stored("w", run_of(TOKENS[:8], 0))
    index.stored("w", run_of(TOKENS[8:16], 10, parent=1))
    assert index.cached_tokens("w", TOKENS) == 16
    assert index.cached_tokens("w", TOKENS[8:16]) == 0
    assert index.cached_tokens("w", [*TOKENS[:4], *TOKENS[8:16]]) == 4


def test_workers_are_told_apart_and_all_answered_for() -> None:
    index = index_of("none", "half", "all")
    index.stored("half", run_of(TOKENS[:16], 0))
    index.stored("all", run_of(TOKENS, 0))
    assert index.hit_tokens(TOKENS) == {"none": 0, "half": 16, "all": 32}
    index.remove_worker("half")
    assert index.hit_tokens(TOKENS) == {"none": 0, "all": 32}
    assert index.cached_tokens("half", TOKENS) == 0


def test_workers_may_have_blocks_of_different_sizes() -> None:
    index = index_of("small", block_tokens=1)
    index.add_worker("large", 16)
    index.cleared("large")
    index.stored("small", run_of(TOKENS[:21], 0, block_tokens=1))
    index.stored("large", run_of(TOKENS, 0, block_tokens=16))
    assert index.hit_tokens(TOKENS[:30]) == {"small": 21, "large": 16}


def test_long_prompts_are_looked_up_in_strides() -> None:
    tokens = [number * 7919 % 100_003 for number in range(3000)]
    for block_tokens in (1, 3, 700):
        index = index_of("w", block_tokens=block_tokens)
        whole = len(tokens) // block_tokens * block_tokens
        index.stored("w", run_of(tokens[:whole], 0, block_tokens=block_tokens))
        assert index.cached_tokens("w", tokens) == whole
        assert index.cached_tokens("w", [*tokens[:1500], -1]) == 1500 // block_tokens * block_tokens


def test_a_block_on_two_media_is_gone_when_both_let_go() -> None:
    index = index_of("w")
    hashes = [0, 1]
    for medium in ("GPU", "CPU_PINNED"):
        index.stored(
            "w",
            StoredBlocks(
                block_hashes=hashes, parent_hash=None, token_ids=TOKENS[:8], medium=medium
            ),
        )
    index.removed("w", RemovedBlocks(block_hashes=hashes, medium="GPU"))
    assert index.cached_tokens("w", TOKENS) == 8
    index.removed("w", RemovedBlocks(block_hashes=[1], medium="CPU_PINNED"))
    assert index.cached_tokens("w", TOKENS) == 4


def test_a_disk_is_no_cache() -> None:
    index = index_of("w")
    index.stored(
        "w",
        StoredBlocks(block_hashes=[0], parent_hash=None, token_ids=TOKENS[:4], medium="DISK"),
    )
    assert index.cached_tokens("w", TOKENS) == 0


def test_a_run_of_another_block_size_is_passed_over() -> None:
    index = index_of("w")
    index.stored("w", StoredBlocks(block_hashes=[0], parent_hash=None, token_ids=TOKENS[:3]))
    assert index.num_blocks("w") == 0


def test_the_continuation_of_an_unknown_block_is_passed_over() -> None:
    index = index_of("w")
    index.stored("w", run_of(TOKENS[:8], 10, parent=99))
    assert index.num_blocks("w") == 0


def test_clearing_forgets_everything_and_is_an_exact_answer() -> None:
    index = index_of("w")
    index.stored("w", run_of(TOKENS, 0))
    index.cleared("w")
    assert index.hit_tokens(TOKENS) == {"w": 0}
    assert index.num_blocks("w") == 0


def test_a_worker_heard_from_the_middle_on_is_not_trusted_at_first() -> None:
    index = BlockIndex()
    index.add_worker("w", 4)
    assert not index.has_trusted
    index.stored("w", run_of(TOKENS, 0))
    assert index.hit_tokens(TOKENS) == {}
    assert index.cached_tokens("w", TOKENS) == 32
    for number in range(32):
        index.stored("w", run_of([number] * 4, 1000 + number))
    assert index.has_trusted
    assert index.hit_tokens(TOKENS) == {"w": 32}


def test_trust_is_lost_when_continuations_cannot_be_placed() -> None:
    index = BlockIndex()
    index.add_worker("w", 4)
    for number in range(100):
        index.stored("w", run_of([number] * 4, number, parent=None if number % 10 else 7777))
    assert not index.is_trusted("w")
    for number in range(200):
        index.stored("w", run_of([number] * 4, number))
    assert index.is_trusted("w")
    index.restart("w", is_complete=False)
    assert not index.is_trusted("w")
    assert index.num_blocks("w") == 0


def test_a_block_needs_tokens() -> None:
    with pytest.raises(ValueError, match="block_tokens must be at least 1"):
        BlockIndex().add_worker("w", 0)
