"""Writes a chat as the text that the model reads, by the template that came with the model.

Templates are Jinja in the dialect of the Hugging Face libraries: blocks are trimmed, loops may be
left, and three names are known. They run in a sandbox.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

from hfx_sgl.clock import unix_time_s
from hfx_sgl.errors import ConfigError

_READS_PARTS = re.compile(r"""\.type\b|\[['"]type['"]\]""")
"""A template that looks at the parts of a message's content; others want one text."""


class ChatTemplate:
    """One compiled template.

    Args:
        special_tokens: `bos_token` and the like, which templates write by name.

    Raises:
        ConfigError: the source is no template.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        import jinja2
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _today
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as exc:
            raise ConfigError(f"chat_template: {exc}") from exc
        self._special_tokens = dict(special_tokens)
        self._reads_parts = _READS_PARTS.search(source) is not None

    def render(self, messages: list[dict[str, Any]], tools: list[Any] | None) -> str:
        """Return the text, up to where the answer begins.

        Raises:
            jinja2.TemplateError: the template does not take these messages.
        """
        return self._template.render(
            self._special_tokens,
            messages=[self._message(message) for message in messages],
            tools=tools,
            add_generation_prompt=True,
        )

    def _message(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return a message as SGLang hands it to templates."""
        message = dict(message)
        content = message.get("content")
        if content is None:
            message["content"] = ""
        elif isinstance(content, list) and not self._reads_parts:
            message["content"] = content_text(content)
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            message["tool_calls"] = [_with_parsed_arguments(call) for call in calls]
        return message


def content_text(content: object) -> str:
    """Return the text of a message's content, which may be a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return " ".join(
        part["text"]
        for part in content
        if isinstance(part, dict) and isinstance(part.get("text"), str)
    )


def _with_parsed_arguments(call: Any) -> Any:
    """Return a tool call whose arguments, JSON inside a JSON text, are an object."""
    try:
        function = dict(call["function"])
        function["arguments"] = json.loads(function["arguments"])
    except (KeyError, TypeError, ValueError):
        return call
    return {**call, "function": function}


def _to_json(value: object, indent: int | None = None, **options: Any) -> str:
    """Return JSON as templates expect it: letters of all scripts as they are, no HTML escapes."""
    return json.dumps(value, ensure_ascii=False, indent=indent, **options)


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _today(form: str) -> str:
    return datetime.fromtimestamp(unix_time_s()).strftime(form)
