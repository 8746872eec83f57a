"""Counts a prompt's tokens with the tokenizer of its model. Blocking: see `token_thread`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from hfx_router.estimates.chat_template import ChatTemplate, content_text
from hfx_router.estimates.tokenizer_files import TokenizerFiles, find_tokenizer
from hfx_sgl.errors import ConfigError


class PromptText(msgspec.Struct, frozen=True, gc=False):
    """A prompt as its request has it."""

    prompt_json: bytes
    """See RoutingFields.prompt_json."""
    tools_json: bytes = b""
    """The tools of a chat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCount:
    """What a tokenizer makes of a prompt."""

    num_tokens: int
    token_ids: Sequence[int] | None
    """The tokens themselves; None where they are not all known: for a batch, a chat without a
    template, or one with media."""
    num_bare_messages: int = 0
    """Messages of a chat without template: what wraps each of them is not counted."""


class Tokenizer(Protocol):
    """Counts."""

    def count(self, prompt: PromptText) -> TokenCount:
        """Return the tokens of the prompt; any error means that it is not one."""
        ...


class HubTokenizer:
    """A tokenizer in the form of Hugging Face's `tokenizers`, and the chat template beside it.

    Args:
        encode: returns the tokens of a text; the flag asks for those that begin a prompt.
    """

    def __init__(
        self, encode: Callable[[str, bool], Sequence[int]], template: ChatTemplate | None
    ) -> None:
        self._encode = encode
        self._template = template

    def count(self, prompt: PromptText) -> TokenCount:
        """See Tokenizer."""
        content = msgspec.json.decode(prompt.prompt_json)
        if isinstance(content, str):
            return _counted(self._encode(content, True))
        if content and isinstance(content[0], str):
            batch = [self._encode(text, True) for text in content]
            if len(batch) == 1:
                return _counted(batch[0])
            return TokenCount(num_tokens=sum(map(len, batch)), token_ids=None)
        tools = msgspec.json.decode(prompt.tools_json) if prompt.tools_json else None
        return self._count_chat(content, tools)

    def _count_chat(self, messages: list[dict[str, Any]], tools: list[Any] | None) -> TokenCount:
        if self._template is not None:
            return _counted(self._encode(self._template.render(messages, tools), False))
        texts = [content_text(message.get("content")) for message in messages]
        return TokenCount(
            num_tokens=sum(len(self._encode(text, False)) for text in texts),
            token_ids=None,
            num_bare_messages=len(messages),
        )


def _counted(token_ids: Sequence[int]) -> TokenCount:
    return TokenCount(num_tokens=len(token_ids), token_ids=token_ids)


def load_tokenizer(path: str, field: str, template_path: str | None = None) -> HubTokenizer:
    """Load the tokenizer of a model.

    Args:
        path: see `find_tokenizer`.
        field: the setting that names it.
        template_path: a chat template to use instead of the model's own.

    Raises:
        ConfigError: it cannot be found or read, or the extra `tokenizer` is not installed.
    """
    try:
        import jinja2  # noqa: F401
        import tokenizers
    except ModuleNotFoundError as exc:
        raise ConfigError(
            f"{field}: counting tokens needs the extra `tokenizer` "
            f"(pip install 'hfx-sgl[tokenizer]'); {exc.name} is missing"
        ) from exc
    files = find_tokenizer(path, field, template_path)
    return HubTokenizer(_encoder(tokenizers, files, field), _template(files))


def configured_tokenizer(
    tokenizer_path: str | None, model_path: str | None, template_path: str | None
) -> HubTokenizer | None:
    """Return the tokenizer that the settings name; None when they name none.

    Raises:
        ConfigError: see `load_tokenizer`.
    """
    if tokenizer_path is not None:
        return load_tokenizer(tokenizer_path, "tokenizer_path", template_path)
    if model_path is not None:
        return load_tokenizer(model_path, "model_path", template_path)
    return None


def _encoder(
    tokenizers: Any, files: TokenizerFiles, field: str
) -> Callable[[str, bool], Sequence[int]]:
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(files.tokenizer))
    except Exception as exc:  # the library raises nothing more precise
        raise ConfigError(f"{field}: cannot read {files.tokenizer} ({exc})") from exc
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(text: str, begins_prompt: bool) -> Sequence[int]:
        # Of a batch, unlike of a single text, offsets can be left out, which takes half the time.
        encoded = tokenizer.encode_batch_fast([text], add_special_tokens=begins_prompt)[0]
        ids: Sequence[int] = encoded.ids
        return ids

    return encode


def _template(files: TokenizerFiles) -> ChatTemplate | None:
    if files.template is None:
        return None
    return ChatTemplate(files.template, files.special_tokens)
