"""The KV memory of one engine: how much is used, and which prompts are still in it.

Counts only, no contents. The tokens that the prefix tree holds are part of the pool's used ones:
a request allocates from the pool, `PrefixCache.add` takes its prompt over into the tree, and what
`PrefixCache.evict` returns goes back to the pool. So, at each instant, used tokens of the pool =
tokens of the tree + what the requests hold outside it.
"""
