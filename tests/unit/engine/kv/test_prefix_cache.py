import pytest

from hfx_sgl.engine.kv.pool import KvAccountingError
from hfx_sgl.engine.kv.prefix_cache import Lock, PrefixCache
from hfx_sgl.prompt import Prompt


def prompt_of(*segments: tuple[int, int]) -> Prompt:
    return Prompt(tuple(s[0] for s in segments), tuple(s[1] for s in segments))


def compute(cache: PrefixCache, prompt: Prompt) -> Lock:
    """Put a prompt into the tree as a request does that takes what is there."""
    lock, num_there = cache.add(prompt, cache.lock(prompt, cache.match(prompt)))
    assert num_there == 0
    return lock


def remember(cache: PrefixCache, *prompts: Prompt) -> None:
    for prompt in prompts:
        cache.unlock(compute(cache, prompt))


SYSTEM = (1, 100)
ALICE = prompt_of(SYSTEM, (2, 50))
BOB = prompt_of(SYSTEM, (3, 70))


def test_matches_the_longest_prefix() -> None:
    cache = PrefixCache()
    assert cache.match(ALICE) == 0
    remember(cache, ALICE)
    assert cache.match(ALICE) == 150
    assert cache.match(BOB) == 100
    assert cache.match(prompt_of(SYSTEM)) == 100
    assert cache.match(prompt_of(SYSTEM, (2, 50), (9, 5))) == 150
    assert cache.match(prompt_of((2, 50))) == 0


def test_a_segment_of_another_length_is_another_one() -> None:
    cache = PrefixCache()
    remember(cache, ALICE)
    assert cache.match(prompt_of((1, 99), (2, 50))) == 0
    assert cache.match(prompt_of(SYSTEM, (2, 51))) == 100


def test_keeps_a_shared_prefix_once() -> None:
    cache = PrefixCache()
    remember(cache, ALICE, BOB)
    assert cache.num_tokens == 220
    assert cache.match(ALICE) == 150
    assert cache.match(BOB) == 170


def test_tells_what_two_requests_computed_twice() -> None:
    cache = PrefixCache()
    alice = cache.lock(ALICE, 0)
    bob = cache.lock(BOB, 0)
    alice, num_there = cache.add(ALICE, alice)
    assert num_there == 0
    bob, num_there = cache.add(BOB, bob)
    assert num_there == 100, "the system prompt"
    assert cache.num_locked_tokens == 220
    cache.unlock(alice)
    assert cache.num_locked_tokens == 170
    cache.unlock(bob)
    assert cache.num_evictable_tokens == 220


def test_a_request_may_compute_the_last_token_of_a_cached_prompt() -> None:
    cache = PrefixCache()
    remember(cache, ALICE)
    lock = cache.lock(ALICE, 149)
    assert lock.num_tokens == 149
    lock, num_there = cache.add(ALICE, lock)
    assert (lock.num_tokens, num_there, cache.num_tokens) == (150, 1, 150)


def test_evicts_the_least_recently_used_leaf_first() -> None:
    cache = PrefixCache()
    remember(cache, ALICE, BOB)
    assert cache.match(ALICE) == 150
    assert cache.evict(1) == 70
    assert cache.match(BOB) == 100
    assert cache.match(ALICE) == 150


def test_evicts_a_prefix_after_what_is_built_on_it() -> None:
    cache = PrefixCache()
    other = prompt_of((7, 10))
    remember(cache, ALICE, other, BOB)
    assert cache.evict(50) == 50, "Alice's part"
    assert cache.evict(1) == 10
    assert cache.evict(71) == 170
    assert cache.num_tokens == 0


def test_a_prefix_is_as_recent_as_its_last_use() -> None:
    cache = PrefixCache()
    other = prompt_of((7, 10))
    remember(cache, ALICE, other)
    assert cache.match(prompt_of(SYSTEM)) == 100
    assert [cache.evict(1), cache.evict(1)] == [50, 10]
    assert cache.match(prompt_of(SYSTEM)) == 100


def test_evicts_no_more_than_needed() -> None:
    cache = PrefixCache()
    remember(cache, ALICE, BOB)
    assert cache.evict(0) == 0
    assert cache.evict(51) == 120
    assert cache.num_tokens == 100


def test_a_lock_keeps_its_prefix_alone() -> None:
    cache = PrefixCache()
    remember(cache, ALICE, BOB)
    lock = cache.lock(ALICE, 100)
    assert (cache.num_locked_tokens, cache.num_evictable_tokens) == (100, 120)
    assert cache.evict(1000) == 120
    assert cache.match(ALICE) == 100
    cache.unlock(lock)
    assert cache.evict(1000) == 100


def test_a_lock_splits_what_is_kept_as_one() -> None:
    cache = PrefixCache()
    remember(cache, prompt_of((1, 10), (2, 10), (3, 10), (4, 10)))
    lock = cache.lock(prompt_of((1, 10), (2, 10), (3, 10), (4, 10)), 15)
    assert cache.num_locked_tokens == 20, "up to the segment of the last token"
    assert cache.evict(1) == 20
    cache.unlock(lock)
    assert cache.num_evictable_tokens == 20


def test_two_locks_on_one_prefix() -> None:
    cache = PrefixCache()
    first = compute(cache, ALICE)
    second = cache.lock(BOB, 100)
    cache.unlock(first)
    assert (cache.num_locked_tokens, cache.num_evictable_tokens) == (100, 50)
    cache.unlock(second)
    assert cache.num_locked_tokens == 0


def test_keeps_whole_pages() -> None:
    cache = PrefixCache(page_tokens=64)
    lock = compute(cache, ALICE)
    assert (lock.num_tokens, cache.num_tokens, cache.match(ALICE)) == (128, 128, 128)
    cache.unlock(lock)
    assert cache.match(BOB) == 64, "the page in which they part is Alice's own"
    remember(cache, BOB)
    assert cache.num_tokens == 192
    assert cache.match(BOB) == 128
    assert [cache.evict(1), cache.evict(1), cache.evict(1)] == [64, 64, 64]


def test_keeps_nothing_of_prompts_below_a_page() -> None:
    cache = PrefixCache(page_tokens=64)
    remember(cache, prompt_of((1, 40)), prompt_of((2, 40)))
    assert (cache.num_tokens, cache.match(prompt_of((1, 40)))) == (0, 0)


def test_a_part_below_a_page_goes_when_it_is_cut_off() -> None:
    cache = PrefixCache(page_tokens=64)
    held = compute(cache, prompt_of(SYSTEM, (2, 5)))
    remember(cache, prompt_of(SYSTEM, (3, 90)))
    assert (cache.num_tokens, cache.num_locked_tokens) == (64 + 64, 64)
    cache.unlock(held)
    assert cache.evict(1000) == 128
    assert cache.match(prompt_of(SYSTEM)) == 0


def test_clear_empties_it() -> None:
    cache = PrefixCache()
    lock = compute(cache, ALICE)
    with pytest.raises(KvAccountingError, match="1 locks are held"):
        cache.clear()
    cache.unlock(lock)
    assert cache.clear() == 150
    assert (cache.num_tokens, cache.match(ALICE), cache.evict(1)) == (0, 0, 0)


def test_a_lock_is_given_back_once() -> None:
    cache = PrefixCache()
    first = cache.lock(ALICE, 0)
    second, _ = cache.add(ALICE, first)
    with pytest.raises(KvAccountingError, match="given back"):
        cache.unlock(first)
    with pytest.raises(KvAccountingError, match="given back"):
        cache.add(ALICE, first)
    cache.unlock(second)
    with pytest.raises(KvAccountingError, match="given back"):
        cache.unlock(second)


@pytest.mark.parametrize("num_tokens", [64, 7])
def test_only_what_is_there_can_be_locked(num_tokens: int) -> None:
    cache = PrefixCache(page_tokens=32)
    remember(cache, prompt_of((1, 32)))
    with pytest.raises(KvAccountingError, match="to be locked"):
        cache.lock(prompt_of((1, 32), (2, 60)), num_tokens)
