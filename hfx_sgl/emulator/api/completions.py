"""`/v1/completions`."""

from http import HTTPStatus
from typing import Any

import orjson

from hfx_sgl.emulator import tokens
from hfx_sgl.emulator.api import fields
from hfx_sgl.emulator.api.asks import Limits, PromptText, make_asks
from hfx_sgl.emulator.api.call import event
from hfx_sgl.emulator.api.generate import encode_ids
from hfx_sgl.emulator.api.logprobs import completion_logprobs
from hfx_sgl.emulator.api.meta import WEIGHT_VERSION, openai_reason, weight_versions
from hfx_sgl.emulator.api.openai import OpenAiHead, StreamOptions, total_usage
from hfx_sgl.emulator.api.sampling import DEFAULT_NEW_TOKENS, Sampling, read_openai
from hfx_sgl.emulator.failures import BodyError, Json, ValueRefused
from hfx_sgl.emulator.sequence import Sequence
from hfx_sgl.types import Role

_KIND = "text_completion"


class CompletionShape:
    """The answers to one body. See call.Shape.

    Raises:
        BodyError: the body does not fit the schema.
        ValueRefused: a value cannot be served.
    """

    def __init__(self, body: Json, limits: Limits, head: OpenAiHead) -> None:
        maximum = fields.whole(body, "max_tokens")
        sampling = read_openai(
            body, max_new_tokens=DEFAULT_NEW_TOKENS if maximum is None else maximum
        )
        if fields.whole(body, "n") == 0:
            raise ValueRefused("n must be at least 1.")
        self._prompts = _prompts(body, sampling)
        self.streams = fields.flag(body, "stream")
        self.asks = make_asks(body, self._prompts, limits)
        self._num_samples = sampling.num_samples
        self._options = StreamOptions.read(body)
        self._echoes = fields.flag(body, "echo")
        self._num_top = fields.whole(body, "logprobs")
        self._head = head
        self._num_sent = [0] * len(self.asks)
        self._has_begun = [False] * len(self.asks)
        self._prefixes = [head.chunk_prefix(ask.rid, _KIND, at) for at, ask in enumerate(self.asks)]

    def events(self, index: int, sequence: Sequence) -> bytes:
        """See call.Shape."""
        if sequence.failure is not None:
            return event(sequence.failure.event_json())
        start, stop = self._num_sent[index], sequence.num_tokens
        data = sequence.output(start, stop)
        # Output is letters and spaces: nothing in it needs escaping.
        text = b'"%b"' % data
        prompt = b""
        if self._echoes and not self._has_begun[index]:
            text = orjson.dumps(self._prompt(index).text + tokens.decode(data))
            prompt = self._prompt(index).data
        self._has_begun[index] = True
        self._num_sent[index] = stop
        reason, matched = openai_reason(sequence)
        return (
            b'data: %b,"text":%b,"logprobs":%b,"finish_reason":%b,"matched_stop":%b}],'
            b'"usage":null}\n\n'
            % (
                self._prefixes[index],
                text,
                orjson.dumps(self._logprobs(sequence, prompt, data)),
                orjson.dumps(reason),
                orjson.dumps(matched),
            )
        )

    def last_events(self, sequences: list[Sequence]) -> bytes:
        """See call.Shape."""
        if not self._options.has_usage or any(sequence.failure for sequence in sequences):
            return b""
        total = self._total(sequences)
        shown = {name: value for name, value in total.items() if value is not None}
        return event(self._head.usage_chunk(sequences[0], _KIND, shown))

    def whole(self, sequences: list[Sequence]) -> tuple[HTTPStatus, Json]:
        """See call.Shape."""
        for sequence in sequences:
            if sequence.failure is not None:
                return sequence.failure.status, sequence.failure.openai_json()
        return HTTPStatus.OK, {
            "id": sequences[0].ask.rid,
            "object": _KIND,
            "created": self._head.created,
            "model": self._head.model,
            "choices": [self._choice(at, sequence) for at, sequence in enumerate(sequences)],
            "usage": self._total(sequences),
            "metadata": {
                "weight_version": WEIGHT_VERSION,
                "weight_versions": weight_versions(sequences[0].num_tokens),
            },
        }

    def _choice(self, index: int, sequence: Sequence) -> Json:
        data = sequence.output(0, sequence.num_tokens)
        echoed = self._prompt(index) if self._echoes else None
        reason, matched = openai_reason(sequence)
        return {
            "index": index,
            "text": (echoed.text if echoed else "") + tokens.decode(data),
            "logprobs": self._logprobs(sequence, echoed.data if echoed else b"", data),
            "finish_reason": reason,
            "matched_stop": matched,
        }

    def _logprobs(self, sequence: Sequence, prompt: bytes, data: bytes) -> Json | None:
        if self._num_top is None:
            return None
        if sequence.role is Role.DECODE:
            # A decode worker has not computed the prompt.
            prompt = b""
        return completion_logprobs(prompt, data, self._num_top)

    def _prompt(self, index: int) -> PromptText:
        return self._prompts[index // self._num_samples]

    def _total(self, sequences: list[Sequence]) -> Json:
        return total_usage(sequences, self._num_samples, reports_cache=self._head.reports_cache)


def _prompts(body: Json, sampling: Sampling) -> list[PromptText]:
    """Return the prompts: a text, token ids, or a list of either."""
    value: Any = body.get("prompt")
    if value is None:
        raise BodyError("body.prompt: is required")
    items = value if isinstance(value, list) and _is_batch(value) else [value]
    if not items:
        raise ValueRefused("Prompt cannot be empty.")
    found = []
    for item in items:
        if isinstance(item, str):
            data, text = tokens.encode(item), item
        else:
            data = encode_ids("prompt", item)
            text = tokens.decode(data)
        found.append(PromptText(data=data, text=text, sampling=sampling))
    return found


def _is_batch(value: list[Any]) -> bool:
    return not value or isinstance(value[0], str | list)
