"""`/v1/chat/completions`."""

from http import HTTPStatus

import orjson

from hfx_sgl.emulator import tokens
from hfx_sgl.emulator.api import fields
from hfx_sgl.emulator.api.asks import Limits, PromptText, make_asks
from hfx_sgl.emulator.api.call import event
from hfx_sgl.emulator.api.logprobs import chat_logprobs
from hfx_sgl.emulator.api.meta import WEIGHT_VERSION, openai_reason, usage, weight_versions
from hfx_sgl.emulator.api.openai import OpenAiHead, StreamOptions, num_cached, total_usage
from hfx_sgl.emulator.api.sampling import read_openai
from hfx_sgl.emulator.failures import BodyError, Json, ValueRefused
from hfx_sgl.emulator.sequence import Sequence

_ROLES = (
    "system", "developer", "user", "assistant", "tool", "function", "latest_reminder", "root",
)  # fmt: skip


class ChatShape:
    """The answers to one body. See call.Shape.

    Raises:
        BodyError: the body does not fit the schema.
        ValueRefused: a value cannot be served.
    """

    def __init__(self, body: Json, limits: Limits, head: OpenAiHead) -> None:
        data = chat_tokens(body)
        maximum = fields.whole(body, "max_completion_tokens")
        if maximum is None:
            maximum = fields.whole(body, "max_tokens")
        sampling = read_openai(body, max_new_tokens=maximum)
        prompt = PromptText(data=data, text="", sampling=sampling)
        self.streams = fields.flag(body, "stream")
        self.asks = make_asks(body, [prompt], limits)
        self._options = StreamOptions.read(body)
        self._num_top = (
            (fields.whole(body, "top_logprobs") or 0) if (fields.flag(body, "logprobs")) else None
        )
        self._head = head
        self._num_sent = [-1] * len(self.asks)
        """Tokens told of each choice; -1 until its role is."""
        self._prefixes = [
            head.chunk_prefix(ask.rid, "chat.completion.chunk", at)
            for at, ask in enumerate(self.asks)
        ]

    def events(self, index: int, sequence: Sequence) -> bytes:
        """See call.Shape."""
        if sequence.failure is not None:
            return event(sequence.failure.event_json())
        parts = []
        start, stop = self._num_sent[index], sequence.num_tokens
        if start < 0:
            start = 0
            parts.append(self._chunk(index, b',"role":"assistant","content":""'))
        self._num_sent[index] = stop
        if stop > start:
            data = sequence.output(start, stop)
            parts.append(self._content(index, sequence, data))
        if sequence.is_ended:
            reason, matched = openai_reason(sequence)
            parts.append(self._chunk(index, b"", reason=orjson.dumps(reason), matched=matched))
        return b"".join(parts)

    def last_events(self, sequences: list[Sequence]) -> bytes:
        """See call.Shape."""
        if not self._options.has_usage or any(sequence.failure for sequence in sequences):
            return b""
        total = total_usage(sequences, len(sequences), reports_cache=self._head.reports_cache)
        return event(self._head.usage_chunk(sequences[0], "chat.completion.chunk", total))

    def whole(self, sequences: list[Sequence]) -> tuple[HTTPStatus, Json]:
        """See call.Shape."""
        for sequence in sequences:
            if sequence.failure is not None:
                return sequence.failure.status, sequence.failure.openai_json()
        total = total_usage(sequences, len(sequences), reports_cache=self._head.reports_cache)
        return HTTPStatus.OK, {
            "id": sequences[0].ask.rid,
            "object": "chat.completion",
            "created": self._head.created,
            "model": self._head.model,
            "choices": [self._choice(at, sequence) for at, sequence in enumerate(sequences)],
            "usage": total,
            "metadata": {
                "weight_version": WEIGHT_VERSION,
                "weight_versions": weight_versions(sequences[0].num_tokens),
            },
        }

    def _choice(self, index: int, sequence: Sequence) -> Json:
        data = sequence.output(0, sequence.num_tokens)
        reason, matched = openai_reason(sequence)
        return {
            "index": index,
            "message": {
                "role": "assistant",
                "content": tokens.decode(data),
                "reasoning_content": None,
            },
            "logprobs": None if self._num_top is None else chat_logprobs(data, self._num_top),
            "finish_reason": reason,
            "matched_stop": matched,
        }

    def _content(self, index: int, sequence: Sequence, data: bytes) -> bytes:
        extra = b""
        if self._options.has_continuous_usage:
            cached = num_cached([sequence]) if self._head.reports_cache else None
            so_far = usage(sequence.ask.num_prompt_tokens, sequence.num_tokens, cached)
            extra = b',"usage":' + orjson.dumps(so_far)
        logprobs = b"null"
        if self._num_top is not None:
            logprobs = orjson.dumps(chat_logprobs(data, self._num_top))
        # Output is letters and spaces: nothing in it needs escaping.
        return self._chunk(index, b',"content":"%b"' % data, logprobs=logprobs, extra=extra)

    def _chunk(
        self,
        index: int,
        delta: bytes,
        *,
        logprobs: bytes = b"null",
        reason: bytes = b"null",
        matched: int | None = None,
        extra: bytes = b"",
    ) -> bytes:
        return (
            b'data: %b,"delta":{"reasoning_content":null%b},"logprobs":%b,"finish_reason":%b,'
            b'"matched_stop":%b}]%b}\n\n'
            % (self._prefixes[index], delta, logprobs, reason, orjson.dumps(matched), extra)
        )


def chat_tokens(body: Json) -> bytes:
    """Return the prompt's tokens: those of each message's content; roles cost nothing.

    Raises:
        BodyError: the messages do not fit the schema.
        ValueRefused: there are none.
    """
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise BodyError("body.messages: must be a list")
    if not messages:
        raise ValueRefused("Messages cannot be empty.")
    tools = body.get("tools")
    parts = [tokens.encode(orjson.dumps(tools).decode())] if tools else []
    parts += [_message_tokens(at, message) for at, message in enumerate(messages)]
    # A chat template says something even where nobody does.
    return b"".join(parts) or bytes(4)


def _message_tokens(at: int, message: object) -> bytes:
    if not isinstance(message, dict):
        raise BodyError(f"body.messages.{at}: must be an object")
    role = message.get("role")
    if not isinstance(role, str) or role.lower() not in _ROLES:
        raise BodyError(f"body.messages.{at}.role: must be one of {', '.join(_ROLES)}")
    content = message.get("content")
    if content is None and role == "user":
        raise BodyError(f"body.messages.{at}.content: is required")
    data = _content_tokens(at, content)
    calls = message.get("tool_calls")
    return data + tokens.encode(orjson.dumps(calls).decode()) if calls else data


def _content_tokens(at: int, content: object) -> bytes:
    if content is None:
        return b""
    if isinstance(content, str):
        return tokens.encode(content)
    if not isinstance(content, list):
        raise BodyError(f"body.messages.{at}.content: must be a string or a list of parts")
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return b"".join(tokens.encode(text) for text in texts if isinstance(text, str))
