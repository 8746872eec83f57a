import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from hfx_router.estimates.tokenizer import (
    HubTokenizer,
    PromptText,
    configured_tokenizer,
    load_tokenizer,
)
from hfx_router.estimates.tokenizer_files import find_tokenizer

from hfx_sgl.errors import ConfigError

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}\n"
    "  {% if m['role'] == 'system' %}\n"
    "sys {{ m['content'] }}\n"
    "  {% else %}\n"
    "usr {{ m['content'] }}\n"
    "  {% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}ast{% endif %}"
)
CHAT = [{"role": "system", "content": "a b"}, {"role": "user", "content": "c c c"}]


def save_tokenizer(folder: Path, **config: Any) -> Path:
    """Save a tokenizer of words that begins prompts with <s>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ("<unk>", "<s>", "a", "b", "c", "sys", "usr", "ast")
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s> ", "eos_token": {"content": "</s>"}, **config})
    )
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tokenizer(tmp_path)


def load(folder: Path, template_path: Path | None = None) -> HubTokenizer:
    return load_tokenizer(
        str(folder), "tokenizer_path", None if template_path is None else str(template_path)
    )


def prompt(value: Any, tools: Any = None) -> PromptText:
    return PromptText(
        prompt_json=json.dumps(value).encode(),
        tools_json=b"" if tools is None else json.dumps(tools).encode(),
    )


def test_text_begins_with_what_begins_prompts(folder: Path) -> None:
    count = load(folder).count(prompt("a b c a b c"))
    assert count.token_ids == [1, 2, 3, 4, 2, 3, 4]
    assert count.num_tokens == 7


def test_batches_are_summed(folder: Path) -> None:
    tokenizer = load(folder)
    both = tokenizer.count(prompt(["a b", "c"]))
    assert (both.num_tokens, both.token_ids) == (5, None)
    assert tokenizer.count(prompt(["a b"])).token_ids == [1, 2, 3]


@pytest.mark.parametrize("place", ["config", "named", "file", "json", "given"])
def test_a_chat_is_written_by_its_template(tmp_path: Path, place: str) -> None:
    given = None
    if place == "config":
        save_tokenizer(tmp_path, chat_template=TEMPLATE)
    elif place == "named":
        named = [
            {"name": "tool_use", "template": "c"}, {"name": "default", "template": TEMPLATE},
        ]  # fmt: skip
        save_tokenizer(tmp_path, chat_template=named)
    elif place == "file":
        save_tokenizer(tmp_path, chat_template="c")
        (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    elif place == "json":
        save_tokenizer(tmp_path, chat_template="c")
        (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    else:
        save_tokenizer(tmp_path, chat_template="c")
        given = tmp_path / "mine.jinja"
        given.write_text(TEMPLATE)
    count = load(tmp_path, given).count(prompt(CHAT))
    assert count.token_ids == [1, 5, 2, 3, 6, 4, 4, 4, 7]
    assert count.num_bare_messages == 0


def test_without_a_template_messages_are_bare(folder: Path) -> None:
    count = load(folder).count(prompt(CHAT))
    assert (count.num_tokens, count.token_ids, count.num_bare_messages) == (5, None, 2)


def test_a_tokenizer_file_will_do(folder: Path) -> None:
    assert load(folder / "tokenizer.json").count(prompt("a")).token_ids == [1, 2]


@pytest.mark.parametrize("value", [{"a": 1}, 5, [[]], [{"role": "user"}, 3]])
def test_what_is_no_prompt_raises(folder: Path, value: Any) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is, the thread catches it
        load(folder).count(prompt(value))


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^tokenizer_path: no tokenizer\.json in "):
        load(tmp_path)


def test_a_tokenizer_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"^tokenizer_path: cannot read "):
        load(tmp_path)


def test_a_template_that_is_none_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% if %}")
    with pytest.raises(ConfigError, match=r"^chat_template: "):
        load(folder)
    with pytest.raises(ConfigError, match=r"^chat_template: cannot read "):
        load(folder, folder / "nothing.jinja")


def test_a_configuration_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"^tokenizer_config: .*is not valid JSON"):
        load(folder)


def test_a_model_of_the_hub_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[tuple[str, list[str]]] = []

    def snapshot_download(name: str, *, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(save_tokenizer(tmp_path))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert find_tokenizer("someone/model", "model_path").tokenizer.parent == tmp_path
    ((name, patterns),) = asked
    assert name == "someone/model"
    assert "tokenizer.json" in patterns


@pytest.mark.parametrize("path", ["no/such/folder/anywhere", "someone/model-that-is-not-cached"])
def test_a_model_that_is_nowhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"^model_path: .* is no folder"):
        find_tokenizer(path, "model_path")


def test_a_missing_library_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def fake_import(name: str, *more: Any) -> Any:
        if name == "tokenizers":
            raise ModuleNotFoundError("no module", name=name)
        return real_import(name, *more)

    monkeypatch.setattr(builtins, "__import__", fake_import)
    with pytest.raises(ConfigError, match=r"hfx-sgl\[tokenizer\].*tokenizers is missing"):
        load(folder)


def test_the_settings_say_which(folder: Path) -> None:
    assert configured_tokenizer(None, None, None) is None
    for tokenizer_path, model_path in ((str(folder), "/nowhere"), (None, str(folder))):
        tokenizer = configured_tokenizer(tokenizer_path, model_path, None)
        assert tokenizer is not None
        assert tokenizer.count(prompt("a")).num_tokens == 2
    with pytest.raises(ConfigError, match=r"^tokenizer_path: "):
        configured_tokenizer("/nowhere", str(folder), None)
    with pytest.raises(ConfigError, match=r"^model_path: "):
        configured_tokenizer(None, "/nowhere", None)
