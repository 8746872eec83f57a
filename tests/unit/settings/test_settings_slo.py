"""The block of promises: read from a file of its own or from the settings file, and its errors."""

from pathlib import Path

import pytest
from hfx_router.launch_router import main
from hfx_router.settings import RouterSettings, load_settings
from hfx_router.settings.core import slo_config
from hfx_router.settings.docs import render_page

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.slo.config import SloConfig, SloRule
from hfx_sgl.slo import Slo

BLOCK = """\
classes:
  chat: {ttft_s: 1, tpot_s: 0.05}
  batch: {e2e_s: 600.5}
  idle: {}
rules:
  - {model: m, path: /generate, api_key: "k-1", class: batch}
  - {path: /v1/embeddings, class: idle}
default_class: chat
"""
CONFIG = SloConfig(
    classes={"chat": Slo(ttft_s=1, tpot_s=0.05), "batch": Slo(e2e_s=600.5), "idle": Slo()},
    rules=(
        SloRule(model="m", path="/generate", api_key=b"k-1", class_name="batch"),
        SloRule(path="/v1/embeddings", class_name="idle"),
    ),
    default_class="chat",
)


def indented(block: str) -> str:
    return "slo:\n" + "".join(f"  {line}\n" for line in block.splitlines())


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def problems_of(argv: list[str]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_settings(argv, {})
    return caught.value.problems


def test_nothing_is_promised_by_default() -> None:
    assert RouterSettings().slo is None
    assert slo_config(RouterSettings()) == SloConfig()


def test_every_place(tmp_path: Path) -> None:
    own = write(tmp_path, "slo.yaml", BLOCK)
    with_block = ["--config", write(tmp_path, "a.yaml", indented(BLOCK))]
    with_name = ["--config", write(tmp_path, "b.yaml", f"slo: {own}\n")]
    assert slo_config(load_settings(["--slo", own], {})) == CONFIG
    assert slo_config(load_settings([], {"HFX_SLO": own})) == CONFIG
    assert slo_config(load_settings(with_block, {})) == CONFIG
    assert slo_config(load_settings(with_name, {})) == CONFIG


def test_precedence(tmp_path: Path) -> None:
    def named(name: str) -> str:
        return write(tmp_path, f"{name}.yaml", f"classes: {{{name}: {{}}}}\n")

    config = ["--config", write(tmp_path, "r.yaml", indented("classes: {file: {}}"))]
    environ = {"HFX_SLO": named("variable")}
    flag = ["--slo", named("flag")]
    assert list(slo_config(load_settings(config, {})).classes) == ["file"]
    assert list(slo_config(load_settings(config, environ)).classes) == ["variable"]
    assert list(slo_config(load_settings([*config, *flag], environ)).classes) == ["flag"]


@pytest.mark.parametrize("block", ["{}", "null"])
def test_an_empty_block(tmp_path: Path, block: str) -> None:
    config = write(tmp_path, "r.yaml", f"slo: {block}\n")
    assert slo_config(load_settings(["--config", config], {})) == SloConfig()


BAD_BLOCKS = [
    # block, field, message
    ("classes: {chat: {ttft_s: 0}}", "classes.chat.ttft_s", "must be greater than 0"),
    ("classes: {chat: {tpot_s: -1}}", "classes.chat.tpot_s", "must be greater than 0"),
    ("classes: {chat: {e2e_s: .inf}}", "classes.chat.e2e_s", "must be a finite number"),
    ("classes: {chat: {e2e_s: .nan}}", "classes.chat.e2e_s", "must be "),
    ("classes: {chat: {ttft_s: yes}}", "classes.chat.ttft_s", "must be a valid number"),
    ("classes: {chat: {ttft_s: '1'}}", "classes.chat.ttft_s", "must be a valid number"),
    ("classes: {chat: {ttft_ms: 1}}", "classes.chat.ttft_ms", "unknown key"),
    ("classes: {chat: 1}", "classes.chat", "must be "),
    ("classes: {none: {}}", "classes.none", "the name stands for something else"),
    ("classes: {a b: {}}", "classes.a b", "a name is 1 to 64 letters"),
    ("clases: {}", "clases", "unknown key"),
    ("default_class: chat", "default_class", "there is no class 'chat'"),
    ("rules: [{model: m}]", "rules[0].class", "is missing"),
    ("rules: [{model: m, class: c}]", "rules[0].class", "there is no class 'c'"),
    ("classes: {c: {}}\nrules: [{class: c}]", "rules[0]", "needs a condition"),
    ("rules: [{path: /health, class: c}]", "rules[0].path", "no request is served there"),
    ("rules: [{path: /tokenize, class: c}]", "rules[0].path", "no request is served there"),
    ("rules: [{key: k, class: c}]", "rules[0].key", "unknown key"),
    ("rules: [{api_key: 'a b', class: c}]", "rules[0].api_key", "a key must be visible ASCII"),
]


@pytest.mark.parametrize(("block", "field", "message"), BAD_BLOCKS)
def test_bad_blocks_name_file_and_field(
    tmp_path: Path, block: str, field: str, message: str
) -> None:
    config = write(tmp_path, "r.yaml", indented(block))
    (problem,) = problems_of(["--config", config])
    assert problem.startswith(f"slo: {field}: {message}")
    assert problem.endswith(f"({config}, line 1)")

    own = write(tmp_path, "slo.yaml", block)
    (problem,) = problems_of(["--slo", own])
    assert problem.startswith(f"slo: {own}:")
    assert f" {field}: " in problem
    assert problem.endswith("(--slo)")


@pytest.mark.parametrize(
    "block", ["- chat", "7", "classes: {a: {}, a: {}}", "classes: {a: {ttft_s: 1, ttft_s: 2}}"]
)
def test_blocks_of_another_shape(tmp_path: Path, block: str) -> None:
    config = write(tmp_path, "r.yaml", indented(block))
    (problem,) = problems_of(["--config", config])
    assert config in problem
    own = write(tmp_path, "slo.yaml", block)
    (problem,) = problems_of(["--slo", own])
    assert own in problem


def test_all_problems_are_reported(tmp_path: Path) -> None:
    own = write(tmp_path, "slo.yaml", "classes: {a: {x: 1}}\nrules: [{model: m}]\n")
    assert [problem.split(": ")[1:3] for problem in problems_of(["--slo", own])] == [
        [f"{own}:1", "classes.a.x"],
        [f"{own}:2", "rules[0].class"],
    ]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.yaml")
    (problem,) = problems_of(["--slo", missing])
    assert problem == f"slo: {missing}: cannot be read: No such file or directory (--slo)"


def test_keys_are_never_shown(tmp_path: Path) -> None:
    secret = "hush-hush"
    rule = f"rules: [{{api_key: {secret}, class: c}}]"
    good = write(tmp_path, "good.yaml", f"classes: {{c: {{}}}}\n{rule}\n")
    settings = load_settings(["--slo", good], {})
    assert secret not in repr(settings)
    assert secret not in repr(settings.slo)
    for bad in (rule, f"rules: [{{api_key: '{secret} x', class: c}}]", f"rules: {secret}"):
        own = write(tmp_path, "bad.yaml", bad)
        config = write(tmp_path, "r.yaml", indented(bad))
        for argv in (["--slo", own], ["--config", config]):
            assert secret not in "".join(problems_of(argv))


def test_the_command_ends_with_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = write(tmp_path, "slo.yaml", "default_class: chat\n")
    assert main(["--slo", own]) == 2
    assert capsys.readouterr().err == (
        f"slo: {own}: default_class: there is no class 'chat' "
        "(classes: none are configured) (--slo)\n"
    )


def test_the_example_of_the_docs_page_works(tmp_path: Path) -> None:
    examples = [part.partition("```")[0] for part in render_page().split("```yaml\n")[1:]]
    (example,) = [text for text in examples if text.startswith("slo:")]
    config = write(tmp_path, "r.yaml", example)
    assert slo_config(load_settings(["--config", config], {})).default_class == "chat"
