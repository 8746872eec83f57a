from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hfx_sgl.engine.kv.prefix_cache import Lock, PrefixCache
from hfx_sgl.prompt import Prompt

Path = tuple[tuple[int, int], ...]

PROMPTS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), min_size=1, max_size=6).map(
    tuple
)


def prompt_of(path: Path) -> Prompt:
    return Prompt(tuple(s[0] for s in path), tuple(s[1] for s in path))


class PrefixCacheMachine(RuleBasedStateMachine):
    """Knows each cached prefix by itself, without a tree of runs."""

    @initialize(page_tokens=st.sampled_from([1, 2, 4, 7]))
    def open(self, page_tokens: int) -> None:
        self.page_tokens = page_tokens
        self.cache = PrefixCache(page_tokens)
        self.paths: dict[Path, int] = {}
        """Each cached prefix and when it was last used."""
        self.num_uses = 0
        self.held: list[tuple[Path, Lock]] = []

    def whole_pages(self, path: Path) -> int:
        return sum(length for _, length in path) // self.page_tokens * self.page_tokens

    def num_own_tokens(self, path: Path) -> int:
        return self.whole_pages(path) - self.whole_pages(path[:-1])

    def expected_match(self, path: Path) -> int:
        prefixes = (path[:end] for end in range(len(path), 0, -1))
        return next((self.whole_pages(p) for p in prefixes if p in self.paths), 0)

    def use(self, path: Path, num_tokens: int) -> None:
        self.num_uses += 1
        for prefix in self.up_to(path, num_tokens):
            if prefix in self.paths:
                self.paths[prefix] = self.num_uses

    def up_to(self, path: Path, num_tokens: int) -> list[Path]:
        """The prefixes of a path up to the segment that holds the token `num_tokens`."""
        prefixes = [path[:end] for end in range(1, len(path) + 1)]
        return [p for p in prefixes if sum(length for _, length in p[:-1]) < num_tokens]

    def locked_paths(self) -> set[Path]:
        return {p for path, lock in self.held for p in self.up_to(path, lock.num_tokens)}

    @rule(path=PROMPTS)
    def match(self, path: Path) -> None:
        assert self.cache.match(prompt_of(path)) == self.expected_match(path)
        self.use(path, 1000)

    @rule(path=PROMPTS, leave_out=st.integers(0, 3))
    def lock(self, path: Path, leave_out: int) -> None:
        num_pages = max(0, self.expected_match(path) // self.page_tokens - leave_out)
        lock = self.cache.lock(prompt_of(path), num_pages * self.page_tokens)
        assert lock.num_tokens == num_pages * self.page_tokens
        self.use(path, lock.num_tokens)
        self.held.append((path, lock))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def add(self, data: st.DataObject) -> None:
        path, lock = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        num_there = self.expected_match(path) - lock.num_tokens
        new_lock, num_double = self.cache.add(prompt_of(path), lock)
        assert num_double == num_there
        assert new_lock.num_tokens == self.whole_pages(path)
        self.paths |= dict.fromkeys(self.up_to(path, 1000), 0)
        self.use(path, 1000)
        self.held.append((path, new_lock))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def unlock(self, data: st.DataObject) -> None:
        _, lock = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.cache.unlock(lock)

    @rule(num_tokens=st.integers(0, 60))
    def evict(self, num_tokens: int) -> None:
        before = self.cache.num_tokens
        evictable = self.cache.num_evictable_tokens
        num_freed = self.cache.evict(num_tokens)
        assert min(num_tokens, evictable) <= num_freed <= evictable
        assert self.cache.num_tokens == before - num_freed
        self.forget_evicted()

    def forget_evicted(self) -> None:
        """Ask for each prefix, the oldest first: asking makes it recent."""
        known = sorted(self.paths.items(), key=lambda item: item[1])
        is_there = {
            path: self.cache.match(prompt_of(path)) == self.whole_pages(path) for path, _ in known
        }
        locked = self.locked_paths()
        evicted = [used for path, used in known if not is_there[path]]
        left = [
            used
            for path, used in known
            if is_there[path] and path not in locked and self.num_own_tokens(path)
        ]
        assert max(evicted, default=0) <= min(left, default=self.num_uses)
        for path, _ in known:
            if is_there[path]:
                self.use(path, 1000)
            else:
                del self.paths[path]

    @precondition(lambda self: not self.held)
    @rule()
    def clear(self) -> None:
        assert self.cache.clear() == sum(map(self.num_own_tokens, self.paths))
        self.paths = {}

    @invariant()
    def counts_add_up(self) -> None:
        if not hasattr(self, "cache"):
            return
        assert self.cache.num_tokens == sum(map(self.num_own_tokens, self.paths))
        locked = self.locked_paths()
        assert self.cache.num_locked_tokens == sum(map(self.num_own_tokens, locked))
        assert locked <= self.paths.keys(), "what is locked stays"


PrefixCacheMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None
)
test_prefix_cache = PrefixCacheMachine.TestCase
