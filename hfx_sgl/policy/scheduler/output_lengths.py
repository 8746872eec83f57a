"""How many tokens an answer will have: learned per class, bounded by what the client allows."""

_PRIOR_TOKENS = 256.0
_PRIOR_WEIGHT = 4.0
_MEMORY = 500.0
"""How many answers the mean remembers; then older ones fade."""


class OutputLengths:
    """A fading mean per class."""

    def __init__(self) -> None:
        self._means: dict[str, tuple[float, float]] = {}

    def expected_tokens(self, class_name: str, max_output_tokens: int | None) -> int:
        """Return what to expect, at least 1."""
        _, mean = self._means.get(class_name, (_PRIOR_WEIGHT, _PRIOR_TOKENS))
        if max_output_tokens is not None and max_output_tokens < mean:
            mean = float(max_output_tokens)
        return max(1, round(mean))

    def observe(self, class_name: str, num_output_tokens: int) -> None:
        """Learn from a complete answer."""
        weight, mean = self._means.get(class_name, (_PRIOR_WEIGHT, _PRIOR_TOKENS))
        weight = min(weight + 1.0, _MEMORY)
        self._means[class_name] = weight, mean + (num_output_tokens - mean) / weight
