"""The tokenizer, and what sglang-router has besides HTTP: parsers, history, other backends.

What a client would miss in an answer is refused; what only concerned the inside is accepted.
"""

from functools import partial
from typing import Literal

from hfx_router.settings.field import (
    U32_MAX,
    YEAR_SECS,
    Group,
    SettingsFields,
    Status,
    setting,
)

_tokenizer = partial(setting, group=Group.TOKENIZER)
_cache = partial(
    setting,
    group=Group.TOKENIZER,
    status=Status.UNBACKED,
    advice="tokens are counted anew for every prompt, in a thread of their own",
)
_parser = partial(
    setting,
    group=Group.TOKENIZER,
    status=Status.UNBACKED,
    advice="the worker parses; start SGLang with the flag of this name",
)
_mode = partial(setting, group=Group.BACKEND, status=Status.REFUSED)
_storage = partial(
    setting,
    group=Group.BACKEND,
    status=Status.REFUSED,
    advice="the router stores nothing; leave the storage settings out",
)


class TokenizerFields(SettingsFields):
    """How prompts are counted; parsers are the workers' business."""

    model_path: str | None = _tokenizer(
        None,
        "Model with whose tokenizer prompts are counted: a folder, or a repository of the Hugging "
        "Face hub. Needs the extra `tokenizer`; without it lengths are estimated.",
        metavar="PATH",
    )
    tokenizer_path: str | None = _tokenizer(
        None, "The same; goes before --model-path.", metavar="PATH"
    )
    chat_template: str | None = _tokenizer(
        None,
        "File with the chat template to count chats with, in place of the model's own.",
        metavar="PATH",
    )
    tokenizer_wait_ms: float = _tokenizer(
        5.0,
        "Milliseconds that a request may wait for its prompt to be counted; after that its length "
        "is estimated.",
        ge=0,
        le=1000,
    )
    tokenizer_cache_enable_l0: bool = _cache(False, "Cache tokens of whole texts.")
    tokenizer_cache_l0_max_entries: int = _cache(10_000, "Texts in that cache.", ge=0, le=U32_MAX)
    tokenizer_cache_enable_l1: bool = _cache(False, "Cache tokens of prefixes.")
    tokenizer_cache_l1_max_memory: int = _cache(
        50 * 1024 * 1024, "Bytes in that cache.", ge=0, le=2**40
    )
    reasoning_parser: str | None = _parser(None, "Parser of reasoning parts.", metavar="NAME")
    tool_call_parser: (
        Literal[
            "deepseek", "glm45_moe", "glm47_moe", "json", "kimik2", "llama", "minimax_m2",
            "mistral", "passthrough", "pythonic", "qwen", "qwen_coder", "step3",
        ]
        | None
    ) = _parser(None, "Parser of tool calls.", metavar="NAME")  # fmt: skip


class BackendFields(SettingsFields):
    """Other engines and modes."""

    backend: Literal["sglang", "openai"] = _mode(
        "sglang",
        "Engine behind the router.",
        advice="only SGLang workers are supported; leave --backend out",
    )
    enable_igw: bool = _mode(
        False,
        "Several models behind one router.",
        advice="one model for each router; start a router for every model",
    )
    mini_lb: bool = _mode(
        False,
        "Use the Python load balancer of sglang-router.",
        status=Status.UNBACKED,
        advice="hfx-router takes the place of mini-lb",
    )
    mcp_config_path: str | None = _mode(
        None,
        "MCP servers for /v1/responses.",
        advice="MCP tools are not supported; leave --mcp-config-path out",
        metavar="FILE",
    )


class StorageFields(SettingsFields):
    """Where sglang-router keeps conversations and responses."""

    history_backend: Literal["memory", "none", "oracle", "postgres", "redis"] = _storage(
        "memory",
        "Store of conversations; memory and none both keep nothing here.",
        harmless=("none",),
    )
    oracle_wallet_path: str | None = _storage(None, "Oracle wallet.", metavar="DIR")
    oracle_tns_alias: str | None = _storage(None, "Oracle TNS alias.")
    oracle_connect_descriptor: str | None = _storage(
        None, "Oracle connection string.", is_secret=True
    )
    oracle_username: str | None = _storage(None, "Oracle user.")
    oracle_password: str | None = _storage(None, "Oracle password.", is_secret=True)
    oracle_pool_min: int = _storage(1, "Oracle connections at least.", ge=0, le=U32_MAX)
    oracle_pool_max: int = _storage(16, "Oracle connections at most.", ge=1, le=U32_MAX)
    oracle_pool_timeout_secs: int = _storage(
        30, "Seconds to wait for an Oracle connection.", ge=0, le=YEAR_SECS
    )
    postgres_db_url: str | None = _storage(
        None, "PostgreSQL database.", metavar="URL", is_secret=True
    )
    postgres_pool_max: int = _storage(16, "PostgreSQL connections at most.", ge=1, le=U32_MAX)
    redis_url: str | None = _storage(None, "Redis database.", metavar="URL", is_secret=True)
    redis_pool_max: int = _storage(16, "Redis connections at most.", ge=1, le=U32_MAX)
    redis_retention_days: int = _storage(30, "Days to keep entries; -1 for ever.", ge=-1, le=36_500)
