"""The POST endpoints of the byte path, and what each needs."""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property


class PdSupport(Enum):
    """How an endpoint is served when prefill and decode are separated."""

    PAIR = "pair"
    """A prefill and a decode worker hand over the request."""
    ANY = "any"
    """No generation: one prefill worker answers alone."""
    NONE = "none"
    """SGLang has no hand-off for it."""


class PromptLogprobs(Enum):
    """What an endpoint can tell about its prompt's tokens."""

    NONE = "none"
    GENERATE = "generate"
    COMPLETIONS = "completions"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One POST path."""

    path: str
    id_prefix: str = "req-"
    pd: PdSupport = PdSupport.NONE
    prompt_logprobs: PromptLogprobs = PromptLogprobs.NONE
    """How log probabilities of the prompt, which only the prefill has, get into the answer."""
    num_extra_events: int = 0
    """Events of its streams that carry no token: the role at first, the reason to stop at last."""
    infers: bool = True
    """Whether a model computes the answer; only then is there anything to promise."""
    worker_path: str | None = None
    """The path at the worker where it differs from `path`."""

    @cached_property
    def worker_target(self) -> bytes:
        """The path at the worker, as it goes on the wire."""
        return (self.worker_path or self.path).encode()


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        path="/generate",
        id_prefix="gnt-",
        pd=PdSupport.PAIR,
        prompt_logprobs=PromptLogprobs.GENERATE,
    ),
    Endpoint(
        path="/v1/chat/completions", id_prefix="chatcmpl-", pd=PdSupport.PAIR, num_extra_events=2
    ),
    Endpoint(
        path="/v1/completions",
        id_prefix="cmpl-",
        pd=PdSupport.PAIR,
        prompt_logprobs=PromptLogprobs.COMPLETIONS,
    ),
    Endpoint(path="/v1/responses", id_prefix="resp-"),
    Endpoint(path="/v1/embeddings"),
    Endpoint(path="/rerank", worker_path="/v1/rerank"),
    Endpoint(path="/v1/rerank"),
    Endpoint(path="/v1/score"),
    Endpoint(path="/v1/classify"),
    Endpoint(path="/tokenize", pd=PdSupport.ANY, infers=False),
    Endpoint(path="/detokenize", pd=PdSupport.ANY, infers=False),
    Endpoint(path="/v1/tokenize", pd=PdSupport.ANY, infers=False),
    Endpoint(path="/v1/detokenize", pd=PdSupport.ANY, infers=False),
)
