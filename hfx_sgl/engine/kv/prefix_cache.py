"""Which prompt prefixes still have their KV: a radix tree over the segments of prompts.

Follows the radix cache of SGLang with a segment in place of a token: a segment matches as a
whole or not at all. Nodes hold runs of segments and are split where prompts part. Only whole
pages are kept; where two prompts part inside a page, each branch has its own copy of that page.
"""

from heapq import heappop, heappush, heapreplace
from itertools import count

from hfx_sgl.engine.kv.pool import KvAccountingError
from hfx_sgl.prompt import Prompt


class _Node:
    """A run of segments after those of its parent."""

    __slots__ = (
        "children",
        "end_segments",
        "end_tokens",
        "ids",
        "is_queued",
        "lengths",
        "num_locks",
        "num_tokens",
        "parent",
        "recency",
    )

    def __init__(
        self,
        parent: "_Node | None",
        ids: tuple[int, ...],
        lengths: tuple[int, ...],
        end_tokens: int,
        recency: int,
    ) -> None:
        self.parent = parent
        self.ids = ids
        self.lengths = lengths
        self.end_segments: int = (parent.end_segments if parent else 0) + len(ids)
        """Segments from the root up to the end of this node."""
        self.end_tokens = end_tokens
        """The same in tokens, before rounding to pages."""
        self.num_tokens = 0
        """Tokens of the whole pages that end in this node."""
        self.children: dict[tuple[int, int], _Node] = {}
        self.num_locks = 0
        """Locks on this node and on nodes below it."""
        self.recency = recency
        self.is_queued = False
        """Whether the eviction queue has an entry of this node."""


class Lock:
    """Keeps a prefix in the cache until `PrefixCache.unlock`, or until `add` replaces it."""

    __slots__ = ("_node", "num_tokens")

    def __init__(self, node: _Node, num_tokens: int) -> None:
        self._node: _Node | None = node
        self.num_tokens = num_tokens
        """Tokens of the prompt that its request has from the tree, in whole pages."""


class PrefixCache:
    """The prefix tree of one engine.

    Its tokens are part of the used tokens of the engine's `KvPool`; the cache does not call the
    pool. The least recently used goes first, and a prefix is at least as recent as what is built
    on it. Each call takes time linear in the segments of the prompt, with a small constant.
    """

    def __init__(self, page_tokens: int = 1) -> None:
        self.page_tokens = page_tokens
        self._clock = count(1)
        self._num_entries = count()
        self._reset()

    def _reset(self) -> None:
        self._root = _Node(None, (), (), 0, 0)
        self._num_tokens = 0
        self._num_locked_tokens = 0
        self._num_locks = 0
        # At most one entry per node, keyed by a recency that it had: looked up again when popped.
        self._queue: list[tuple[int, int, _Node]] = []

    @property
    def num_tokens(self) -> int:
        """Tokens in the tree."""
        return self._num_tokens

    @property
    def num_locked_tokens(self) -> int:
        """Tokens in the tree that a lock keeps there."""
        return self._num_locked_tokens

    @property
    def num_evictable_tokens(self) -> int:
        """Tokens that `evict` could free."""
        return self._num_tokens - self._num_locked_tokens

    def match(self, prompt: Prompt) -> int:
        """Return the tokens of the longest cached prefix, in whole pages, and mark it as used."""
        return self._whole_pages(self._walk(self._root, prompt, prompt.num_tokens).end_tokens)

    def lock(self, prompt: Prompt, num_tokens: int) -> Lock:
        """Keep the first `num_tokens` of a prompt, at most what `match` returned for it.

        The whole segment that holds the last of them is kept. Marks the prefix as used.

        Raises:
            KvAccountingError: no whole pages, or not so much of the prompt is there.
        """
        node = self._walk(self._root, prompt, num_tokens)
        if num_tokens % self.page_tokens or num_tokens > node.end_tokens:
            raise KvAccountingError(
                f"{num_tokens} tokens to be locked, {node.end_tokens} are cached "
                f"(pages of {self.page_tokens})"
            )
        self._lock_up_to(node, self._root)
        return self._hold(node, num_tokens)

    def add(self, prompt: Prompt, lock: Lock) -> tuple[Lock, int]:
        """Take over a prompt that has been computed by the request that holds `lock`.

        Returns:
            The lock on the whole pages of the prompt, which replaces `lock`, and how many of the
            tokens after `lock.num_tokens` were in the tree already: the pages that the request
            has computed for them are free.

        Raises:
            KvAccountingError: `lock` is not held.
        """
        locked = self._release(lock)
        node = self._walk(locked, prompt, prompt.num_tokens)
        num_whole = self._whole_pages(prompt.num_tokens)
        num_there = self._whole_pages(node.end_tokens)
        if num_whole > num_there:
            node = self._grow(node, prompt, num_whole - num_there)
        self._mark_used(node)
        self._lock_up_to(node, locked)
        return self._hold(node, num_whole), num_there - lock.num_tokens

    def unlock(self, lock: Lock) -> None:
        """Let the prefix be evicted, as far as no other lock keeps it.

        Raises:
            KvAccountingError: `lock` is not held.
        """
        locked = node = self._release(lock)
        while node.parent is not None:
            node.num_locks -= 1
            if not node.num_locks:
                self._num_locked_tokens -= node.num_tokens
            node = node.parent
        self._settle(locked)

    def evict(self, num_tokens: int) -> int:
        """Free at least so many tokens, or all that can be; return how many.

        Goes by leaves, the least recently used first, and takes each as a whole.
        """
        num_freed = 0
        queue = self._queue
        while num_freed < num_tokens and queue:
            recency, _, node = queue[0]
            if node.parent is None or node.children or node.num_locks:
                node.is_queued = False
                heappop(queue)
            elif node.recency != recency:
                heapreplace(queue, (node.recency, next(self._num_entries), node))
            else:
                heappop(queue)
                num_freed += node.num_tokens
                self._remove(node)
        return num_freed

    def clear(self) -> int:
        """Empty the tree and return the tokens freed.

        Raises:
            KvAccountingError: a lock is held.
        """
        if self._num_locks:
            raise KvAccountingError(f"cleared while {self._num_locks} locks are held")
        num_freed = self._num_tokens
        self._reset()
        return num_freed

    def _whole_pages(self, num_tokens: int) -> int:
        return num_tokens - num_tokens % self.page_tokens

    def _walk(self, node: _Node, prompt: Prompt, num_tokens: int) -> _Node:
        """Follow a prompt down from `node`, up to the segment with its token `num_tokens`.

        Returns the last node that it reaches; splits the node in which it has to stop.
        """
        ids = prompt.segment_ids
        lengths = prompt.segment_tokens
        now = next(self._clock)
        start = node.end_segments
        while node.end_tokens < num_tokens and start < len(ids):
            child = node.children.get((ids[start], lengths[start]))
            if child is None:
                break
            end = child.end_segments
            if (
                child.end_tokens - child.lengths[-1] >= num_tokens
                or child.ids != ids[start:end]
                or child.lengths != lengths[start:end]
            ):
                num_common = _num_common(child, prompt, start, num_tokens - node.end_tokens)
                node = self._split(child, num_common)
                node.recency = now
                break
            child.recency = now
            node = child
            start = end
        return node

    def _split(self, lower: _Node, num_segments: int) -> _Node:
        """Cut a node in two and return the upper part; locks stay on the lower one."""
        above = lower.parent
        assert above is not None
        ids = lower.ids[:num_segments]
        lengths = lower.lengths[:num_segments]
        upper = _Node(above, ids, lengths, above.end_tokens + sum(lengths), lower.recency)
        upper.num_tokens = self._whole_pages(upper.end_tokens) - self._whole_pages(above.end_tokens)
        upper.num_locks = lower.num_locks
        above.children[ids[0], lengths[0]] = upper
        lower.parent = upper
        lower.ids = lower.ids[num_segments:]
        lower.lengths = lower.lengths[num_segments:]
        lower.num_tokens -= upper.num_tokens
        upper.children[lower.ids[0], lower.lengths[0]] = lower
        return upper

    def _grow(self, node: _Node, prompt: Prompt, num_tokens: int) -> _Node:
        """Append the rest of a prompt below `node`, with so many tokens in whole pages."""
        start = node.end_segments
        ids = prompt.segment_ids[start:]
        lengths = prompt.segment_tokens[start:]
        leaf = _Node(node, ids, lengths, prompt.num_tokens, 0)
        leaf.num_tokens = num_tokens
        node.children[ids[0], lengths[0]] = leaf
        self._num_tokens += num_tokens
        return leaf

    def _mark_used(self, node: _Node) -> None:
        now = next(self._clock)
        above: _Node | None = node
        while above is not None:
            above.recency = now
            above = above.parent

    def _lock_up_to(self, node: _Node, locked: _Node) -> None:
        """Lock a node and those above it, as far down as `locked`, which is left alone."""
        while node is not locked:
            if not node.num_locks:
                self._num_locked_tokens += node.num_tokens
            node.num_locks += 1
            assert node.parent is not None
            node = node.parent

    def _hold(self, node: _Node, num_tokens: int) -> Lock:
        self._num_locks += 1
        return Lock(node, num_tokens)

    def _release(self, lock: Lock) -> _Node:
        node = lock._node
        if node is None:
            raise KvAccountingError("this lock has been given back already")
        lock._node = None
        self._num_locks -= 1
        return node

    def _settle(self, node: _Node) -> None:
        """Queue a node for eviction if it is a leaf without locks; drop it if it has no page."""
        if node.children or node.num_locks or node.parent is None:
            return
        if not node.num_tokens:
            self._remove(node)
        elif not node.is_queued:
            node.is_queued = True
            heappush(self._queue, (node.recency, next(self._num_entries), node))

    def _remove(self, leaf: _Node) -> None:
        above = leaf.parent
        assert above is not None
        del above.children[leaf.ids[0], leaf.lengths[0]]
        leaf.parent = None
        self._num_tokens -= leaf.num_tokens
        self._settle(above)


def _num_common(node: _Node, prompt: Prompt, start: int, num_tokens: int) -> int:
    """Return how many segments of `node` the prompt has from `start` on.

    Stops behind the segment with the token `num_tokens`.
    """
    ids = prompt.segment_ids
    lengths = prompt.segment_tokens
    num_common = 0
    for segment_id, length in zip(node.ids, node.lengths, strict=True):
        index = start + num_common
        if (
            num_tokens <= 0
            or index == len(ids)
            or ids[index] != segment_id
            or lengths[index] != length
        ):
            break
        num_tokens -= length
        num_common += 1
    return num_common
