"""Every flag of sglang-router 0.3.2, as its own parser declares it, against ours."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hfx_router.auth import ControlPlaneKey, KeyRole
from hfx_router.settings import (
    PrefillTarget,
    RouterSettings,
    load_settings,
    unbacked_in_use,
)
from hfx_router.settings.field import Status, traits_of

from hfx_sgl.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class SglFlag:
    flag: str
    nargs: str
    type: str
    choices: tuple[str, ...]
    default: object
    sample: tuple[str, ...]

    @property
    def field(self) -> str:
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def status(self) -> Status:
        return traits_of(RouterSettings.model_fields[self.field]).status

    @property
    def argv(self) -> list[str]:
        """The sample on a command line, with the flag that it cannot do without."""
        needs_pd = self.field in ("prefill", "decode")
        return [self.flag, *self.sample, *(["--pd-disaggregation"] if needs_pd else [])]


def read_table() -> list[SglFlag]:
    flags = []
    for line in (Path(__file__).parent / "sgl_flags.tsv").read_text().splitlines():
        if not line.startswith("#"):
            flag, nargs, kind, choices, default, sample = line.split("\t")
            flags.append(
                SglFlag(
                    flag=flag,
                    nargs=nargs,
                    type=kind,
                    choices=tuple(choices.split("|")) if choices else (),
                    default=json.loads(default),
                    sample=tuple(json.loads(sample)),
                )
            )
    return flags


FLAGS = read_table()
IDS = [flag.flag for flag in FLAGS]

PARSED_OTHERWISE: dict[str, object] = {
    "prefill": (PrefillTarget(url="http://p1:8000", bootstrap_port=8998),),
    "control_plane_api_keys": (
        ControlPlaneKey(key_id="k1", name="Service Account", role=KeyRole.ADMIN, secret="s3:cret"),
        ControlPlaneKey(key_id="k2", name="Read Only", role=KeyRole.USER, secret="t"),
    ),
    "request_id_headers": ("x-trace", "x-req"),
}


OWN_DEFAULTS = {"policy": "hfx"}
"""Keeping promises is what people start this router for."""


def expected_value(flag: SglFlag) -> object:
    if flag.field in PARSED_OTHERWISE:
        return PARSED_OTHERWISE[flag.field]
    if flag.nargs == "switch":
        return True
    convert = {"int": int, "float": float, "str": str}[flag.type]
    values = tuple(convert(word) for word in flag.sample)
    return values[0] if flag.nargs == "1" else values


def problems_of(*argv: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_settings(argv, {})
    return caught.value.problems


def test_the_table_is_complete() -> None:
    assert len(FLAGS) == 98
    assert {flag.field for flag in FLAGS} <= set(RouterSettings.model_fields)


@pytest.mark.parametrize("flag", FLAGS, ids=IDS)
def test_default_is_that_of_sglang_router(flag: SglFlag) -> None:
    value = getattr(load_settings([], {}), flag.field)
    expected = OWN_DEFAULTS.get(flag.field, flag.default)
    assert (list(value) if isinstance(value, tuple) else value) == expected


@pytest.mark.parametrize("flag", FLAGS, ids=IDS)
def test_another_value_is_taken_or_refused_with_advice(flag: SglFlag) -> None:
    if flag.status is Status.REFUSED:
        advice = traits_of(RouterSettings.model_fields[flag.field]).advice
        assert problems_of(*flag.argv) == (f"{flag.field}: {advice}",)
        assert len(advice) > 20
        return
    settings = load_settings(flag.argv, {})
    value = getattr(settings, flag.field)
    assert value == expected_value(flag)
    assert type(value) is type(expected_value(flag)) or flag.choices
    named = [notice.partition(":")[0] for notice in unbacked_in_use(settings)]
    assert named == ([flag.field] if flag.status is Status.UNBACKED else [])


@pytest.mark.parametrize("flag", [f for f in FLAGS if f.nargs != "switch"], ids=lambda f: f.flag)
def test_number_of_words(flag: SglFlag) -> None:
    def is_taken(*words: str) -> bool:
        try:
            load_settings([flag.flag, *words, "--pd-disaggregation"], {})
        except ConfigError as exc:
            return not any(
                ("expected" in problem and "argument" in problem) or "unknown argument" in problem
                for problem in exc.problems
            )
        return True

    assert is_taken() == (flag.nargs == "*")
    assert is_taken(*flag.sample)
    takes_many = flag.nargs in ("*", "+", "append+")
    assert is_taken(flag.sample[0], flag.sample[0]) == takes_many


@pytest.mark.parametrize("flag", [f for f in FLAGS if f.nargs == "switch"], ids=lambda f: f.flag)
def test_a_switch_takes_no_word(flag: SglFlag) -> None:
    assert problems_of(flag.flag, "true") == ("command line: unknown argument 'true'",)


@pytest.mark.parametrize("flag", [f for f in FLAGS if f.type != "str"], ids=lambda f: f.flag)
def test_numbers_are_numbers(flag: SglFlag) -> None:
    if flag.nargs == "switch":
        (problem,) = problems_of(f"{flag.flag}=maybe")
    else:
        (problem,) = problems_of(flag.flag, "many")
    assert problem.startswith(f"{flag.field}: ")


@pytest.mark.parametrize("flag", [f for f in FLAGS if f.type == "int"], ids=lambda f: f.flag)
@pytest.mark.parametrize("word", ["1.5", "-2", "1" + "0" * 30, "inf", ""])
def test_whole_numbers_have_bounds(flag: SglFlag, word: str) -> None:
    (problem,) = problems_of(flag.flag, word)
    assert problem.startswith(f"{flag.field}: ")
    assert f"({flag.flag})" in problem


@pytest.mark.parametrize("flag", [f for f in FLAGS if f.type == "float"], ids=lambda f: f.flag)
@pytest.mark.parametrize("word", ["nan", "inf", "-1"])
def test_decimal_numbers_have_bounds(flag: SglFlag, word: str) -> None:
    (problem,) = problems_of(flag.flag, word)
    assert problem.startswith(f"{flag.field}: ")


@pytest.mark.parametrize("flag", [f for f in FLAGS if f.choices], ids=lambda f: f.flag)
def test_choices(flag: SglFlag) -> None:
    for choice in flag.choices:
        if flag.status is Status.REFUSED and choice not in (flag.default, "none"):
            assert problems_of(flag.flag, choice)[0].startswith(f"{flag.field}: ")
        else:
            assert getattr(load_settings([flag.flag, choice], {}), flag.field) == choice
    (problem,) = problems_of(flag.flag, "bogus")
    assert problem.startswith(f"{flag.field}: ")
    assert "bogus" in problem


def test_repeatable_flags_add_up() -> None:
    command = (
        "--pd-disaggregation --prefill http://p1:80 none --prefill http://p2:80 "
        "--prefill http://p3:80 9000 --decode http://d1 --decode http://d2"
    )
    settings = load_settings(command.split(), {})
    assert settings.prefill == (
        PrefillTarget(url="http://p1:80"),
        PrefillTarget(url="http://p2:80"),
        PrefillTarget(url="http://p3:80", bootstrap_port=9000),
    )
    assert settings.decode == ("http://d1", "http://d2")


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--worker-urls", ()), ("--request-id-headers", ()), ("--cors-allowed-origins", ())],
)
def test_lists_may_be_given_without_a_value(flag: str, value: object) -> None:
    settings = load_settings([flag], {})
    assert getattr(settings, flag.removeprefix("--").replace("-", "_")) == value


def test_flags_may_be_shortened_and_joined_as_with_sglang_router() -> None:
    settings = load_settings(["--worker-url", "http://a", "--port=31000"], {})
    assert (settings.worker_urls, settings.port) == (("http://a",), 31000)
