import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.slo.config import MAX_CLASSES, SloConfig, SloRule, is_class_name
from hfx_sgl.slo import Slo

CHAT = {"chat": Slo(ttft_s=1.0)}


@pytest.mark.parametrize("name", ["chat", "0", "a.b_c-d", "Z" * 64])
def test_class_names(name: str) -> None:
    assert is_class_name(name)


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a;b", "a\n", "é", "Z" * 65])
def test_no_class_names(name: str) -> None:
    assert not is_class_name(name)


def test_a_sound_configuration() -> None:
    config = SloConfig(
        classes={f"c{index}": Slo() for index in range(MAX_CLASSES)},
        rules=(
            SloRule(class_name="c0", model="m"),
            SloRule(class_name="c1", path="/p"),
            SloRule(class_name="c2", api_key=b"k"),
        ),
        default_class="c3",
    )
    assert len(config.rules) == 3


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"classes": {"a b": Slo()}}, "classes.a b: a name is 1 to 64 letters"),
        ({"classes": {"none": Slo()}}, "classes.none: the name stands for something else"),
        ({"classes": {"other": Slo()}}, "classes.other: the name stands for something else"),
        (
            {"classes": {f"c{index}": Slo() for index in range(MAX_CLASSES + 1)}},
            "classes: there may be 64, not 65",
        ),
        (
            {"default_class": "chat"},
            "default_class: there is no class 'chat' (classes: none are configured)",
        ),
        (
            {"classes": CHAT, "rules": (SloRule(class_name="x", model="m"),)},
            "rules[0].class: there is no class 'x' (classes: chat)",
        ),
        (
            {"classes": CHAT, "rules": (SloRule(class_name="chat"),)},
            "rules[0]: needs a condition: model, path or api_key",
        ),
    ],
)
def test_problems(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SloConfig(**fields)  # type: ignore[arg-type]
    (found,) = caught.value.problems
    assert found.startswith(problem)


def test_a_key_is_not_printed() -> None:
    assert "hush" not in repr(SloRule(class_name="chat", api_key=b"hush"))
