"""Which of several inputs decides what a request is promised."""

import math

import pytest

from hfx_sgl.policy.slo.config import RequestTraits, SloConfig, SloRule
from hfx_sgl.policy.slo.resolve import (
    NO_PROMISE,
    Promise,
    SloResolver,
    SloSource,
    StatedSlo,
    first_of_each,
    fits,
)
from hfx_sgl.slo import Slo

CHAT = Slo(ttft_s=1.0, tpot_s=0.05)
BATCH = Slo(e2e_s=60.0)
CONFIG = SloConfig(
    classes={"chat": CHAT, "batch": BATCH, "idle": Slo()},
    rules=(
        SloRule(class_name="batch", model="m", path="/p"),
        SloRule(class_name="idle", path="/p"),
        SloRule(class_name="chat", api_key=b"k"),
    ),
    default_class="chat",
)
HEADERS = Slo(ttft_s=0.2)
BODY = Slo(ttft_s=9.0, e2e_s=30.0)
PLAIN = RequestTraits(path="/")


@pytest.mark.parametrize(
    ("stated", "traits", "promise"),
    [
        # headers, then body, bound by bound, and the class stays a label
        (
            StatedSlo(in_headers=HEADERS, in_body=BODY, class_name="batch"),
            PLAIN,
            Promise(slo=Slo(ttft_s=0.2, e2e_s=30.0), class_name="batch", source=SloSource.HEADER),
        ),
        (
            StatedSlo(in_body=BODY, class_name="batch"),
            PLAIN,
            Promise(slo=BODY, class_name="batch", source=SloSource.BODY),
        ),
        # own bounds replace those of the class: no e2e of batch, no tpot of the default chat
        (
            StatedSlo(in_headers=HEADERS, class_name="batch"),
            PLAIN,
            Promise(slo=HEADERS, class_name="batch", source=SloSource.HEADER),
        ),
        (
            StatedSlo(in_headers=HEADERS),
            PLAIN,
            Promise(slo=HEADERS, class_name="chat", source=SloSource.HEADER),
        ),
        (
            StatedSlo(class_name="batch"),
            RequestTraits(path="/p"),
            Promise(slo=BATCH, class_name="batch", source=SloSource.CLASS),
        ),
        (
            StatedSlo(),
            RequestTraits(path="/p", model="m"),
            Promise(slo=BATCH, class_name="batch", source=SloSource.RULE),
        ),
        (StatedSlo(), RequestTraits(path="/p", model="n"), Promise(class_name="idle")),
        (
            StatedSlo(),
            RequestTraits(path="/", api_key=b"k"),
            Promise(slo=CHAT, class_name="chat", source=SloSource.RULE),
        ),
        (
            StatedSlo(),
            PLAIN,
            Promise(slo=CHAT, class_name="chat", source=SloSource.DEFAULT),
        ),
    ],
)
def test_the_first_input_decides(
    stated: StatedSlo, traits: RequestTraits, promise: Promise
) -> None:
    resolver = SloResolver(CONFIG)
    assert resolver.stated(stated, traits) == promise
    if stated == StatedSlo():
        assert resolver.unstated(traits) == promise


def test_without_configuration_nothing_is_promised() -> None:
    resolver = SloResolver(SloConfig())
    assert resolver.unstated(PLAIN) is NO_PROMISE
    assert resolver.stated(StatedSlo(), PLAIN) is NO_PROMISE
    assert not NO_PROMISE.is_bounded


@pytest.mark.parametrize(
    ("name", "label"), [("chat", "chat"), ("a b", "other"), ("", "other"), ("x" * 65, "other")]
)
def test_without_classes_a_name_is_a_label(name: str, label: str) -> None:
    promise = SloResolver(SloConfig()).stated(StatedSlo(class_name=name), PLAIN)
    assert promise == Promise(class_name=label)
    assert not promise.is_bounded


@pytest.mark.parametrize("name", ["Chat", "", "x" * 100])
def test_an_unknown_class_is_no_promise_at_all(name: str) -> None:
    stated = StatedSlo(in_headers=HEADERS, class_name=name)
    assert SloResolver(CONFIG).stated(stated, PLAIN) is None


def test_only_what_has_a_bound_is_bounded() -> None:
    resolver = SloResolver(CONFIG)
    idle = resolver.stated(StatedSlo(class_name="idle"), PLAIN)
    batch = resolver.stated(StatedSlo(class_name="batch"), PLAIN)
    assert idle is not None
    assert not idle.is_bounded
    assert batch is not None
    assert batch.is_bounded


@pytest.mark.parametrize(
    ("rule", "traits", "is_fit"),
    [
        (SloRule(class_name="c", model="m"), RequestTraits(path="/p", model="m"), True),
        (SloRule(class_name="c", model="m"), RequestTraits(path="/p", model="mm"), False),
        (SloRule(class_name="c", model="m"), RequestTraits(path="/p"), False),
        (SloRule(class_name="c", path="/p"), RequestTraits(path="/p"), True),
        (SloRule(class_name="c", path="/p"), RequestTraits(path="/p/"), False),
        (SloRule(class_name="c", api_key=b"k"), RequestTraits(path="/", api_key=b"k"), True),
        (SloRule(class_name="c", api_key=b"k"), RequestTraits(path="/", api_key=b"K"), False),
        (SloRule(class_name="c", api_key=b"k"), RequestTraits(path="/"), False),
        (
            SloRule(class_name="c", model="m", api_key=b"k"),
            RequestTraits(path="/", model="m", api_key=b"x"),
            False,
        ),
    ],
)
def test_rules(rule: SloRule, traits: RequestTraits, is_fit: bool) -> None:
    assert fits(rule, traits) is is_fit


def test_bounds_of_two_origins() -> None:
    assert first_of_each(Slo(ttft_s=1), Slo(ttft_s=2, tpot_s=3)) == Slo(ttft_s=1, tpot_s=3)
    assert first_of_each(Slo(), Slo(e2e_s=2)) == Slo(e2e_s=2)
    assert first_of_each(Slo(), Slo()).e2e_s == math.inf
