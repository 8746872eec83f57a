"""Where answers hold log probabilities of the prompt, and how those of two answers are joined.

Each class remembers what the prefill's answers say (`learn`) and puts it in front of what the
decode's answers say (`join`), by the position of the prompt in its batch.
"""

from typing import Any, Protocol

Json = dict[str, Any]


class LogprobPlaces(Protocol):
    """One endpoint's way."""

    def learn(self, answer: Json, index: int) -> None:
        """Remember what an answer of the prefill holds."""
        ...

    def join(self, answer: Json, index: int) -> bool:
        """Complete an answer of the decode in place; return whether that changed it."""
        ...


class GeneratePlaces:
    """`/generate`: `meta_info` lists the prompt apart from the output.

    The prefill's answer has the prompt's entries, the decode's has empty lists.
    """

    FIELDS = ("input_token_logprobs", "input_top_logprobs", "input_token_ids_logprobs")

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], list[Any]] = {}

    def learn(self, answer: Json, index: int) -> None:
        """See LogprobPlaces."""
        meta = _object(answer.get("meta_info"))
        for name in self.FIELDS:
            if isinstance(meta.get(name), list):
                self._known.setdefault((index, name), meta[name])

    def join(self, answer: Json, index: int) -> bool:
        """See LogprobPlaces."""
        meta = _object(answer.get("meta_info"))
        was_changed = False
        for name in self.FIELDS:
            own = (meta[name] or []) if name in meta else None
            if isinstance(own, list):
                meta[name] = self._known.get((index, name), []) + own
                was_changed = True
        return was_changed


class CompletionPlaces:
    """`/v1/completions` with `echo`: one list holds the prompt's entries, then the output's.

    The prefill's lists end with the first output token, with which the decode's begin. In a
    stream the prompt's entries belong into the first event of each choice.
    """

    FIELDS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")

    def __init__(self) -> None:
        self._known: dict[int, dict[str, list[Any]]] = {}

    def learn(self, answer: Json, index: int) -> None:
        """See LogprobPlaces; the choices carry their own index."""
        for choice in _choices(answer):
            logprobs = _object(choice.get("logprobs"))
            prompt = {
                name: logprobs[name][:-1]
                for name in self.FIELDS
                if isinstance(logprobs.get(name), list)
            }
            if prompt:
                self._known.setdefault(_choice_index(choice), prompt)

    def join(self, answer: Json, index: int) -> bool:
        """See LogprobPlaces; the choices carry their own index."""
        was_changed = False
        for choice in _choices(answer):
            logprobs = _object(choice.get("logprobs"))
            if not any(isinstance(logprobs.get(name), list) for name in self.FIELDS):
                continue
            for name, prompt in self._known.pop(_choice_index(choice), {}).items():
                own = logprobs.get(name)
                if isinstance(own, list):
                    logprobs[name] = prompt + own
                    was_changed = True
        return was_changed


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _choices(answer: Json) -> list[Json]:
    choices = answer.get("choices")
    return [c for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []


def _choice_index(choice: Json) -> int:
    index = choice.get("index", 0)
    return index if isinstance(index, int) else 0
