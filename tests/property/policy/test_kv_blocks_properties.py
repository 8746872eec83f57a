from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from hfx_sgl.policy.estimates.kv_blocks import BlockIndex, RemovedBlocks, StoredBlocks

BLOCK_TOKENS = 2
MEDIA = ("GPU", "CPU_PINNED", "DISK")
NEAR = frozenset(MEDIA[:2])

TOKENS = st.lists(st.integers(1, 3), max_size=14)
STORES = st.tuples(st.just("store"), st.sampled_from(MEDIA), TOKENS, st.integers(0, 4))
REMOVALS = st.tuples(st.just("remove"), st.sampled_from(MEDIA), TOKENS, st.integers(0, 4))
CLEARS = st.tuples(st.just("clear"), st.just("GPU"), TOKENS, st.just(0))
OPERATIONS = st.lists(st.one_of(STORES, STORES, REMOVALS, CLEARS), max_size=40)

Beginning = tuple[int, ...]


@dataclass
class NaiveCache:
    """Every beginning that is cached, in full; hashes are just numbers given out in turn."""

    held: set[tuple[str, Beginning]] = field(default_factory=set)
    hashes: dict[Beginning, int] = field(default_factory=dict)

    def hash_of(self, beginning: Beginning) -> int:
        return self.hashes.setdefault(beginning, len(self.hashes) * 7 - 3)

    def has(self, beginning: Beginning) -> bool:
        return any((medium, beginning) in self.held for medium in NEAR)

    def cached_tokens(self, tokens: list[int]) -> int:
        for size in range(BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS):
            if not self.has(tuple(tokens[:size])):
                return size - BLOCK_TOKENS
        return len(tokens) // BLOCK_TOKENS * BLOCK_TOKENS


def beginnings(tokens: list[int]) -> list[Beginning]:
    return [tuple(tokens[:size]) for size in range(BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS)]


def store(
    index: BlockIndex, naive: NaiveCache, medium: str, tokens: list[int], num_left_out: int
) -> None:
    """Store a prompt's blocks, without the first few where the worker has those already."""
    blocks = beginnings(tokens)
    num_left_out = min(num_left_out, len(blocks))
    while num_left_out and not naive.has(blocks[num_left_out - 1]):
        num_left_out -= 1
    added = blocks[num_left_out:]
    if not added:
        return
    parent = blocks[num_left_out - 1] if num_left_out else None
    index.stored(
        "w",
        StoredBlocks(
            block_hashes=[naive.hash_of(block) for block in added],
            parent_hash=None if parent is None else naive.hash_of(parent),
            token_ids=tokens[num_left_out * BLOCK_TOKENS : len(blocks) * BLOCK_TOKENS],
            medium=medium,
        ),
    )
    naive.held |= {(medium, block) for block in added}


def remove(
    index: BlockIndex, naive: NaiveCache, medium: str, tokens: list[int], num_kept: int
) -> None:
    gone = beginnings(tokens)[num_kept:]
    hashes = [naive.hash_of(block) for block in gone]
    index.removed("w", RemovedBlocks(block_hashes=hashes, medium=medium))
    naive.held -= {(medium, block) for block in gone}


@settings(max_examples=200, deadline=None)
@given(operations=OPERATIONS, probes=st.lists(TOKENS, min_size=1, max_size=4))
def test_the_index_knows_what_a_naive_memory_knows(
    operations: list[tuple[str, str, list[int], int]], probes: list[list[int]]
) -> None:
    index = BlockIndex()
    index.add_worker("w", BLOCK_TOKENS)
    index.cleared("w")
    naive = NaiveCache()
    for kind, medium, tokens, number in operations:
        if kind == "store":
            store(index, naive, medium, tokens, number)
        elif kind == "remove":
            remove(index, naive, medium, tokens, number)
        else:
            index.cleared("w")
            naive.held.clear()
        for probe in (*probes, tokens):
            expected = naive.cached_tokens(probe)
            assert index.cached_tokens("w", probe) == expected
            assert index.hit_tokens(probe) == {"w": expected}
    held = {block for medium, block in naive.held if medium in NEAR}
    assert index.num_blocks("w") == len(held)
