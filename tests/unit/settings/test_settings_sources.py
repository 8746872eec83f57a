import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hfx_router.settings import PrefillTarget, RouterSettings, load_settings
from hfx_router.settings.field import Group, Status, traits_of
from hfx_router.settings.sources import SCRIPT_VARIABLES
from pydantic import ValidationError

from hfx_sgl.errors import ConfigError

WriteFile = Callable[[str], str]


@pytest.fixture
def write_file(tmp_path: Path) -> WriteFile:
    def write(text: str) -> str:
        path = tmp_path / "router.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def problems_of(argv: list[str], environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_settings(argv, environ)
    return caught.value.problems


PRECEDENCE = [
    # setting, then text and value in file, variable and flag, then the default
    ("port", ("1001", 1001), ("1002", 1002), ("--port 1003", 1003), 30000),
    ("log_level", ("debug", "debug"), ("warn", "warn"), ("--log-level error", "error"), "info"),
    ("dp_aware", ("false", False), ("true", True), ("--dp-aware", True), False),
    (
        "worker_urls",
        ("[http://a]", ("http://a",)),
        ("http://b,http://c", ("http://b", "http://c")),
        ("--worker-urls http://d", ("http://d",)),
        (),
    ),
    ("cache_threshold", ("0.1", 0.1), ("0.2", 0.2), ("--cache-threshold 0", 0.0), 0.3),
]


@pytest.mark.parametrize(("name", "in_file", "variable", "flag", "default"), PRECEDENCE)
def test_precedence(
    write_file: WriteFile,
    name: str,
    in_file: tuple[str, object],
    variable: tuple[str, object],
    flag: tuple[str, object],
    default: object,
) -> None:
    config = ["--config", write_file(f"{name}: {in_file[0]}\n")]
    environ = {f"HFX_{name.upper()}": variable[0]}

    def value(argv: list[str], environ: dict[str, str]) -> object:
        return getattr(load_settings(argv, environ), name)

    assert value([], {}) == default
    assert value(config, {}) == in_file[1]
    assert value(config, environ) == variable[1]
    assert value(config + flag[0].split(), environ) == flag[1]
    assert value(flag[0].split(), environ) == flag[1]


def test_the_file_can_be_named_by_a_variable(write_file: WriteFile) -> None:
    path = write_file("port: 4000\n")
    assert load_settings([], {"HFX_CONFIG": path}).port == 4000
    other = Path(path).with_name("other.yaml")
    other.write_text("port: 5000\n")
    assert load_settings(["--config", str(other)], {"HFX_CONFIG": path}).port == 5000


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("", "port", 30000),
        ("# nothing\n", "port", 30000),
        ("api_key: null\n", "api_key", None),
        ("log_json: yes\n", "log_json", True),
        ("request_id_headers: []\n", "request_id_headers", ()),
        ("prometheus_duration_buckets: [0.5, 1]\n", "prometheus_duration_buckets", (0.5, 1.0)),
        ("client_idle_timeout_secs: 1\n", "client_idle_timeout_secs", 1.0),
        (
            "pd_disaggregation: true\nprefill:\n - http://p:1 9\n - [http://q:1, 8]\n - http://r\n",
            "prefill",
            (
                PrefillTarget(url="http://p:1", bootstrap_port=9),
                PrefillTarget(url="http://q:1", bootstrap_port=8),
                PrefillTarget(url="http://r"),
            ),
        ),
    ],
)
def test_file_values(write_file: WriteFile, text: str, name: str, value: object) -> None:
    assert getattr(load_settings(["--config", write_file(text)], {}), name) == value


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("prot: 1\n", ["prot: unknown setting, did you mean port? ({path}, line 1)"]),
        ("port: 1\n\n7: x\n", ["7: unknown setting ({path}, line 3)"]),
        ("port: 1\nport: 2\n", ["port: given twice, first in {path}, line 1 ({path}, line 2)"]),
        ("config: x\n", ["config: a settings file cannot name another one ({path}, line 1)"]),
        ("port: yes\n", ["port: must not be true ({path}, line 1)"]),
        ("- a\n", ["config: {path}, line 1: expected `name: value` lines"]),
        ("just words\n", ["config: {path}, line 1: expected `name: value` lines"]),
        ("a: 1\nb: [1\n", ["config: {path}, line 3: expected ',' or ']', but got '<stream end>'"]),
        ("x: !!python/object:os.system {}\n", [
            "config: {path}, line 1: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object:os.system'"
        ]),
        ("a: \t\x01\n", ["config: {path}: unacceptable character #x0001"]),
        ("port: [1]\nqueue_size: many\n", [
            "port: must be a valid integer, got [1] ({path}, line 1)",
            "queue_size: must be a valid integer, unable to parse string as an integer, "
            "got 'many' ({path}, line 2)",
        ]),
        ("worker_urls: 3\n", ["worker_urls: must be a list, got 3 ({path}, line 1)"]),
        ("api_key: 12345\n", ["api_key: must be a valid string ({path}, line 1)"]),
    ],
)  # fmt: skip
def test_bad_files(write_file: WriteFile, text: str, problems: list[str]) -> None:
    path = write_file(text)
    found = sorted(problems_of(["--config", path], {}))
    expected = sorted(problem.replace("{path}", path) for problem in problems)
    assert [line[: len(want)] for line, want in zip(found, expected, strict=True)] == expected


def test_unreadable_files(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert problems_of(["--config", missing], {}) == (
        f"config: cannot read {missing}: No such file or directory",
    )
    assert problems_of(["--config", str(tmp_path)], {}) == (
        f"config: cannot read {tmp_path}: Is a directory",
    )
    assert problems_of(["--config", str(binary)], {}) == (
        f"config: cannot read {binary}: not UTF-8 text",
    )


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("HFX_WORKER_URLS", "", "worker_urls", ()),
        ("HFX_WORKER_URLS", " http://a , http://b/ ", "worker_urls", ("http://a", "http://b")),
        ("HFX_WORKER_URLS", '["http://a"]', "worker_urls", ("http://a",)),
        ("HFX_LOG_JSON", "1", "log_json", True),
        ("HFX_LOG_JSON", "off", "log_json", False),
        ("HFX_PROMETHEUS_DURATION_BUCKETS", "0.5,1", "prometheus_duration_buckets", (0.5, 1.0)),
        ("HFX_RATE_LIMIT_TOKENS_PER_SECOND", "7", "rate_limit_tokens_per_second", 7),
    ],
)
def test_variables(variable: str, text: str, name: str, value: object) -> None:
    assert getattr(load_settings([], {variable: text}), name) == value


def test_prefill_variable() -> None:
    environ = {"HFX_PREFILL": "http://a:1 8998, http://b:1", "HFX_PD_DISAGGREGATION": "true"}
    assert load_settings([], environ).prefill == (
        PrefillTarget(url="http://a:1", bootstrap_port=8998),
        PrefillTarget(url="http://b:1"),
    )


def test_unknown_variables_are_all_named() -> None:
    assert problems_of([], {"HFX_PORTT": "1", "HFX_port": "1", "PORT": "x", "HFX_": "1"}) == (
        "HFX_PORTT: unknown variable, did you mean HFX_PORT?",
        "HFX_port: unknown variable",
        "HFX_: unknown variable",
    )


def test_bad_variables_are_named_with_their_value() -> None:
    assert problems_of([], {"HFX_PORT": "70000"}) == (
        "port: must be less than or equal to 65535, got '70000' (HFX_PORT)",
    )
    assert problems_of([], {"HFX_WORKER_URLS": "[http://a]"}) == (
        "worker_urls: not a JSON array: Expecting value at character 1 (HFX_WORKER_URLS)",
    )


def test_kubernetes_service_links_are_left_alone() -> None:
    links = {
        "HFX_SERVICE_HOST": "10.0.0.1",
        "HFX_SERVICE_PORT": "80",
        "HFX_PORT": "tcp://10.0.0.1:80",
        "HFX_PORT_80_TCP": "tcp://10.0.0.1:80",
        "HFX_PORT_80_TCP_ADDR": "10.0.0.1",
        "HFX_ROUTER_SERVICE_HOST": "10.0.0.1",
        "HFX_ROUTER_SERVICE_PORT_METRICS": "29000",
        "HFX_ROUTER_PORT": "tcp://10.0.0.1:80",
        "HFX_ROUTER_PORT_80_TCP_PROTO": "tcp",
    }
    assert load_settings([], links) == RouterSettings()


def test_every_variable_of_the_scripts_is_left_alone() -> None:
    used: set[str] = set()
    for path in (Path(__file__).parents[3] / "scripts").rglob("*"):
        if path.is_file():
            text = path.read_bytes().decode("utf-8", "replace")
            used |= set(re.findall(r"\$\{?(HFX_[A-Z_]+)", text))
    assert used <= SCRIPT_VARIABLES
    assert load_settings([], dict.fromkeys(SCRIPT_VARIABLES, "x")) == RouterSettings()


def test_the_model_does_not_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HFX_PORT", "1234")
    assert RouterSettings().port == 30000
    assert load_settings([], {}).port == 30000


def test_the_model_is_frozen_and_closed() -> None:
    settings = RouterSettings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="prot"):
        RouterSettings(prot=1)  # type: ignore[call-arg]


def test_secrets_appear_neither_in_repr_nor_in_problems() -> None:
    secret = "hush"
    settings = load_settings(
        ["--api-key", secret, "--control-plane-api-keys", f"a:b:user:{secret}"], {}
    )
    assert secret not in repr(settings)
    assert secret not in repr(settings.control_plane_api_keys)
    bad = [
        ["--api-key", f"{secret} {secret}"],
        ["--control-plane-api-keys", f"id:name:{secret}:admin"],
        ["--control-plane-api-keys", secret],
        ["--oracle-password", secret],
        ["--redis-url", f"redis://:{secret}@host"],
    ]
    for argv in bad:
        assert secret not in "".join(problems_of(argv, {}))


@pytest.mark.parametrize("name", RouterSettings.model_fields)
def test_every_field_is_described(name: str) -> None:
    field = RouterSettings.model_fields[name]
    traits = traits_of(field)
    assert field.description
    assert field.description[0].isupper() or field.description.split(":")[0].islower()
    assert field.description.endswith(".")
    assert traits.group in Group
    assert bool(traits.advice) == (traits.status is not Status.BACKED)
    if field.annotation in (int, float, int | None):
        bounds = {type(bound).__name__ for bound in field.metadata}
        assert len(bounds) == 2, f"{name} needs a lower and an upper bound"
