from typing import Any

import pytest
from hfx_router.estimates.chat_template import ChatTemplate

from hfx_sgl.errors import ConfigError

PARTS: list[dict[str, Any]] = [
    {"type": "text", "text": "one"}, {"type": "image_url"}, {"type": "text", "text": "two"},
]  # fmt: skip


def rendered(source: str, message: dict[str, Any], tools: list[Any] | None = None) -> str:
    return ChatTemplate(source, {"bos_token": "<s>"}).render([message], tools)


@pytest.mark.parametrize(
    ("source", "message", "text"),
    [
        ("{{ bos_token }}{{ messages[0].content }}", {"content": "hi"}, "<s>hi"),
        ("{{ messages[0].content }}!", {"content": None}, "!"),
        ("{{ messages[0].content }}", {"content": PARTS}, "one two"),
        (
            "{% for p in messages[0].content %}{{ p['type'] }},{% endfor %}",
            {"content": PARTS},
            "text,image_url,text,",
        ),
        ("{% for i in [1, 2] %}{{ i }}{% break %}{% endfor %}", {}, "1"),
        ("{{ messages[0] | tojson }}", {"content": "<é>"}, '{"content": "<é>"}'),
        ("{{ {'a': [1]} | tojson(indent=1) }}", {}, '{\n "a": [\n  1\n ]\n}'),
        ("  {% if true %}\n  x\n  {% endif %}\n", {}, "  x\n"),
        ("{{ strftime_now('%Y') | length }}", {}, "4"),
        (
            "{{ messages[0].tool_calls[0].function.arguments.city }}",
            {"tool_calls": [{"function": {"name": "f", "arguments": '{"city": "Ulm"}'}}]},
            "Ulm",
        ),
        (
            "{{ messages[0].tool_calls[0].function.arguments }}",
            {"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
            "{",
        ),
    ],
)
def test_writes_as_the_hugging_face_libraries_do(
    source: str, message: dict[str, Any], text: str
) -> None:
    assert rendered(source, message) == text


def test_tools_are_handed_on() -> None:
    source = "{% if tools %}{{ tools[0].name }}{% else %}none{% endif %}"
    assert rendered(source, {}, [{"name": "f"}]) == "f"
    assert rendered(source, {}) == "none"


def test_the_request_s_messages_stay_as_they_are() -> None:
    message = {"content": None, "tool_calls": [{"function": {"arguments": "{}"}}]}
    rendered("{{ messages[0].content }}", message)
    assert message == {"content": None, "tool_calls": [{"function": {"arguments": "{}"}}]}


def test_a_template_may_refuse() -> None:
    from jinja2 import TemplateError

    with pytest.raises(TemplateError, match="roles must alternate"):
        rendered("{{ raise_exception('roles must alternate') }}", {})


def test_a_template_is_kept_in_a_sandbox() -> None:
    from jinja2.exceptions import SecurityError

    with pytest.raises(SecurityError):
        rendered("{{ messages.__class__.__mro__ }}", {})
    with pytest.raises(SecurityError):
        rendered("{{ messages.append(1) }}", {})


def test_a_source_that_is_no_template_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^chat_template: "):
        ChatTemplate("{% for %}", {})
