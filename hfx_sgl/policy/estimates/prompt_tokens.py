"""How many tokens a prompt has, from its size in bytes: a ratio learned per model and class."""

from dataclasses import dataclass

from hfx_sgl.policy.estimates.prompt_size import PromptSize


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTokensConfig:
    """What is assumed before anything was learned, and how fast it is given up."""

    prior_bytes_per_token: float = 4.0
    """English text in a vocabulary of 100,000 tokens or more, the wrapping in JSON included."""
    prior_weight_bytes: float = 2_000.0
    """So much text the prior counts for: one prompt of usual length outweighs it."""
    decay: float = 0.99
    """What an observation counts for after the next one: about the last hundred count."""
    max_weight_bytes: float = 16_384.0
    """A longer prompt counts for no more than one of this length."""
    max_surprise: float = 3.0
    """An observation counts as at most this many times the ratio, or one such part of it."""
    min_bytes_per_token: float = 0.5
    """A chat of one word, wrapped in a template with a system prompt of its own."""
    max_bytes_per_token: float = 16.0
    prior_medium_tokens: float = 1_000.0
    """An image of about 1000 by 800 pixels, cut into patches of 28 by 28."""
    max_ratios: int = 1_000
    """Names of models come from requests: no more than this many ratios are kept."""


class _Ratio:
    """A fading mean of tokens per byte, weighted by bytes."""

    __slots__ = ("tokens_per_byte", "weight_bytes")

    def __init__(self, tokens_per_byte: float, weight_bytes: float) -> None:
        self.tokens_per_byte = tokens_per_byte
        self.weight_bytes = weight_bytes

    def observe(self, config: PromptTokensConfig, num_bytes: int, num_tokens: int) -> None:
        ratio = num_tokens / num_bytes
        known = self.tokens_per_byte
        surprise = config.max_surprise
        if ratio > known * surprise:
            ratio = known * surprise
        elif ratio < known / surprise:
            ratio = known / surprise
        weight = num_bytes if num_bytes < config.max_weight_bytes else config.max_weight_bytes
        self.weight_bytes = self.weight_bytes * config.decay + weight
        known += (ratio - known) * weight / self.weight_bytes
        lowest, highest = 1.0 / config.max_bytes_per_token, 1.0 / config.min_bytes_per_token
        self.tokens_per_byte = min(max(known, lowest), highest)


class PromptTokens:
    """Estimates lengths, and learns from lengths that answers state.

    A class that was not observed yet goes by the ratio of all classes of its model.
    """

    def __init__(self, config: PromptTokensConfig | None = None) -> None:
        self._config = config = config or PromptTokensConfig()
        self._prior_tokens_per_byte = 1.0 / config.prior_bytes_per_token
        self._by_class: dict[tuple[str, str], _Ratio] = {}
        self._by_model: dict[str, _Ratio] = {}
        self._medium_tokens: dict[str, float] = {}

    def estimate(self, model: str, class_name: str, size: PromptSize) -> int:
        """Return the expected number of prompt tokens, at least 1; exact for token ids."""
        if size.num_ids is not None:
            return max(1, size.num_ids)
        num_tokens = size.text_bytes * self._tokens_per_byte(model, class_name)
        if size.num_media:
            num_tokens += size.num_media * self._tokens_per_medium(model)
        return max(1, round(num_tokens))

    def bytes_per_token(self, model: str, class_name: str) -> float:
        """Return the ratio in use, for people."""
        return 1.0 / self._tokens_per_byte(model, class_name)

    def observe(
        self, model: str, class_name: str, size: PromptSize, num_prompt_tokens: int
    ) -> None:
        """Learn from the true length of a prompt of this size.

        Token ids teach nothing, and a prompt with media only how long those are.
        """
        if num_prompt_tokens < 1 or size.num_ids is not None:
            return
        if size.num_media:
            self._observe_media(model, class_name, size, num_prompt_tokens)
        elif size.text_bytes > 0:
            for ratio in (self._model_ratio(model), self._class_ratio(model, class_name)):
                if ratio is not None:
                    ratio.observe(self._config, size.text_bytes, num_prompt_tokens)

    def _tokens_per_byte(self, model: str, class_name: str) -> float:
        ratio = self._by_class.get((model, class_name)) or self._by_model.get(model)
        return self._prior_tokens_per_byte if ratio is None else ratio.tokens_per_byte

    def _tokens_per_medium(self, model: str) -> float:
        return self._medium_tokens.get(model, self._config.prior_medium_tokens)

    def _model_ratio(self, model: str) -> _Ratio | None:
        ratio = self._by_model.get(model)
        if ratio is None and len(self._by_model) < self._config.max_ratios:
            ratio = self._by_model[model] = _Ratio(
                self._prior_tokens_per_byte, self._config.prior_weight_bytes
            )
        return ratio

    def _class_ratio(self, model: str, class_name: str) -> _Ratio | None:
        ratio = self._by_class.get((model, class_name))
        if ratio is None and len(self._by_class) < self._config.max_ratios:
            ratio = self._by_class[model, class_name] = _Ratio(
                self._tokens_per_byte(model, class_name), self._config.prior_weight_bytes
            )
        return ratio

    def _observe_media(
        self, model: str, class_name: str, size: PromptSize, num_prompt_tokens: int
    ) -> None:
        known = self._medium_tokens.get(model)
        if known is None:
            if len(self._medium_tokens) >= self._config.max_ratios:
                return
            known = self._config.prior_medium_tokens
        text_tokens = size.text_bytes * self._tokens_per_byte(model, class_name)
        stated = (num_prompt_tokens - text_tokens) / size.num_media
        surprise = self._config.max_surprise
        stated = min(max(stated, known / surprise), known * surprise)
        self._medium_tokens[model] = known + (stated - known) * _MEDIUM_SHARE


_MEDIUM_SHARE = 0.1
"""What one observation counts for in the mean of media: about the last ten count."""
