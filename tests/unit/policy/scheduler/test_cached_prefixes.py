import pytest

from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.facts import RequestFacts
from hfx_sgl.policy.scheduler.prefixes import CachedPrefixes
from hfx_sgl.slo import Slo


def prompt(digests: range, *, block_tokens: float = 10.0, num_prompt_tokens: int = 10_000) -> Entry:
    facts = RequestFacts(
        request_id="r",
        class_name="chat",
        arrived_at_s=0.0,
        slo=Slo(),
        num_prompt_tokens=num_prompt_tokens,
        block_digests=list(digests),
        block_tokens=block_tokens,
    )
    return Entry(facts, 0, 0.0, 1)


def cut(prefixes: CachedPrefixes, entry: Entry) -> Entry:
    prefixes.cut(entry)
    return entry


def hits(prefixes: CachedPrefixes, entry: Entry) -> dict[str, int]:
    prefixes.look_up(cut(prefixes, entry))
    return entry.hit_tokens


def two_workers(
    kv_capacity_tokens: int = 100_000, share: float = 1.0, grain_tokens: float = 1.0
) -> CachedPrefixes:
    prefixes = CachedPrefixes(share, grain_tokens)
    prefixes.add_worker("a", kv_capacity_tokens)
    prefixes.add_worker("b", kv_capacity_tokens)
    return prefixes


def test_nothing_is_known_at_first() -> None:
    assert hits(two_workers(), prompt(range(5))) == {}


def test_only_the_worker_that_was_sent_it_has_it() -> None:
    prefixes = two_workers()
    prefixes.remember("b", cut(prefixes, prompt(range(8))))
    assert hits(prefixes, prompt(range(5))) == {"b": 50}
    assert hits(prefixes, prompt(range(20))) == {"b": 80}
    assert hits(prefixes, prompt(range(100, 105))) == {}


@pytest.mark.parametrize(
    ("block_tokens", "num_prompt_tokens", "expected"),
    [
        (10.6, 10_000, {"a": 31}),
        (10.6, 20, {"a": 19}),
        (10.6, 1, {}),
        (0.3, 10_000, {}),
    ],
)
def test_hits_are_rounded_down_and_leave_a_token_to_compute(
    block_tokens: float, num_prompt_tokens: int, expected: dict[str, int]
) -> None:
    prefixes = two_workers()
    entry = prompt(range(3), block_tokens=block_tokens, num_prompt_tokens=num_prompt_tokens)
    prefixes.remember("a", cut(prefixes, entry))
    assert hits(prefixes, entry) == expected


def test_remembers_no_more_than_its_share_of_the_kv() -> None:
    prefixes = two_workers(kv_capacity_tokens=2000, share=0.5)
    first, last = prompt(range(100)), prompt(range(200, 300))
    prefixes.remember("a", cut(prefixes, first))
    assert hits(prefixes, first) == {"a": 1000}
    prefixes.remember("a", cut(prefixes, last))
    assert hits(prefixes, last)["a"] + hits(prefixes, first).get("a", 0) <= 1000
    prefixes.remember("b", cut(prefixes, prompt(range(400))))
    assert hits(prefixes, prompt(range(400))).get("b", 0) <= 1000


def test_a_worker_that_left_has_nothing_even_when_it_is_back() -> None:
    prefixes = two_workers()
    prefixes.remember("a", cut(prefixes, prompt(range(5))))
    prefixes.remember("b", cut(prefixes, prompt(range(5))))
    prefixes.remove_worker("a")
    assert hits(prefixes, prompt(range(5))) == {"b": 50}
    prefixes.add_worker("a", 100)
    assert hits(prefixes, prompt(range(5))) == {"b": 50}


def test_a_prompt_without_digests_is_neither_remembered_nor_found() -> None:
    prefixes = two_workers()
    prefixes.remember("a", cut(prefixes, prompt(range(0))))
    assert hits(prefixes, prompt(range(0))) == {}
