"""Finds a model's tokenizer and chat template: in a folder, or on the Hugging Face hub."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfx_sgl.errors import ConfigError

_WANTED_FILES = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFiles:
    """What was found."""

    tokenizer: Path
    template: str | None
    """The source of the chat template; None where the model has none."""
    special_tokens: dict[str, str]


def find_tokenizer(path: str, field: str, template_path: str | None = None) -> TokenizerFiles:
    """Return the files of a tokenizer.

    Args:
        path: a folder, a `tokenizer.json`, or a repository of the hub (`Qwen/Qwen3-8B`), whose
            tokenizer is downloaded unless it is in the local cache.
        field: the setting that says so, for error messages.
        template_path: a file with the chat template to use instead of the model's own.

    Raises:
        ConfigError: there is no tokenizer in the form of a `tokenizer.json`.
    """
    given = Path(path)
    folder = given.parent if given.is_file() else given
    if not folder.is_dir():
        folder = _from_hub(path, field)
    tokenizer = given if given.is_file() else folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise ConfigError(f"{field}: no tokenizer.json in {folder}")
    config = _read_json(folder / "tokenizer_config.json")
    template = _template_of(folder, config)
    if template_path is not None:
        template = _read_text(Path(template_path), "chat_template")
    return TokenizerFiles(
        tokenizer=tokenizer, template=template, special_tokens=_special_tokens(config)
    )


def _from_hub(path: str, field: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, allow_patterns=list(_WANTED_FILES)))
    except HFValidationError as exc:
        raise ConfigError(f"{field}: {path!r} is no folder and no model on the hub") from exc
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as exc:
        raise ConfigError(f"{field}: {path!r} is no folder, and not to be had: {exc}") from exc


def _template_of(folder: Path, config: dict[str, Any]) -> str | None:
    """Return the template of a model; a file of its own wins, as in the Hugging Face libraries."""
    if (folder / "chat_template.jinja").is_file():
        return _read_text(folder / "chat_template.jinja", "chat_template")
    template = _read_json(folder / "chat_template.json").get("chat_template")
    if template is None:
        template = config.get("chat_template")
    if isinstance(template, list):  # several with names
        named = {item.get("name"): item.get("template") for item in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    tokens = {}
    for name, token in config.items():
        if isinstance(token, dict):
            token = token.get("content")
        if name.endswith("_token") and isinstance(token, str):
            tokens[name] = token
    return tokens


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(_read_text(path, path.stem))
    except ValueError as exc:
        raise ConfigError(f"{path.stem}: {path} is not valid JSON ({exc})") from exc
    return value if isinstance(value, dict) else {}


def _read_text(path: Path, field: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{field}: cannot read {path} ({exc})") from exc
