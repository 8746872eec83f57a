"""The whole way of a start, with servers that are played and a starter that starts none."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hfx_transfer.sglang.weights import (
    CloneSettings,
    CloneSpec,
    plan_clone,
    start_clones,
)
from support.fake_sglang import FakeSglang, checksums, fake_sglang, loads, model_info

from hfx_sgl.errors import ConfigError, LaunchError
from hfx_sgl.launch.plan import InstancePlan
from hfx_sgl.launch.weights import GiveUp
from hfx_sgl.types import Role

SETTINGS = CloneSettings(probe_timeout_s=5.0, silence_timeout_s=0.2)
SEED_FLAG = "--remote-instance-weight-loader-start-seed-via-transfer-engine"
PYTHON = """\
#!/bin/sh
shift
[ $# = 0 ] && echo '{"sglang": "0.5.23", "mooncake": null, "plugin": PLUGIN}'
for session in "$@"; do echo "{\\"session\\": \\"$session\\", \\"answers\\": true}"; done
"""


@dataclass(slots=True)
class Played:
    """A starter: servers are there as soon as they are started, unless a test says otherwise."""

    servers: dict[str, FakeSglang]
    fails: Callable[[InstancePlan], str | None] = lambda plan: None
    started: list[list[InstancePlan]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    limits_s: list[float | None] = field(default_factory=list)
    watches: list[GiveUp | None] = field(default_factory=list)

    def try_add(
        self, *plans: InstancePlan, timeout_s: float | None = None, give_up: GiveUp | None = None
    ) -> dict[str, str]:
        self.started.append(list(plans))
        self.limits_s.append(timeout_s)
        self.watches.append(give_up)
        failed = {plan.name: reason for plan in plans if (reason := self.fails(plan)) is not None}
        for plan in plans:
            server = self.servers[plan.name]
            is_clone = "--load-format" in plan.argv
            server.model_info["load_format"] = "remote_instance" if is_clone else "auto"
        return failed

    def stop(self, name: str) -> None:
        self.stopped.append(name)

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass(slots=True)
class Site:
    """Two sources, and three servers that are to be started."""

    sources: list[FakeSglang]
    plans: list[InstancePlan]
    starter: Played

    @property
    def urls(self) -> list[str]:
        return [source.url for source in self.sources]


def make_site(stack: ExitStack, folder: Path, *, plugin: bool = True) -> Site:
    python = folder / "python"
    python.write_text(PYTHON.replace("PLUGIN", "true" if plugin else "false"))
    python.chmod(0o755)
    model = folder / "model"
    model.mkdir()
    (model / "model.safetensors").touch()
    sources = [stack.enter_context(fake_sglang()) for _ in range(2)]
    servers = {f"new-{n}": stack.enter_context(fake_sglang()) for n in range(3)}
    argv = (str(python), "-m", "sglang.launch_server", "--model-path", str(model))
    plans = [
        InstancePlan(
            name=name,
            role=Role.REGULAR,
            argv=(*argv, "--served-model-name", "tiny", SEED_FLAG),
            url=server.url,
            log_path=str(folder / f"{name}.log"),
        )
        for name, server in servers.items()
    ]
    return Site(sources, plans, Played(servers))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield make_site(stack, tmp_path)


def source_of(plan: InstancePlan) -> str | None:
    flag = "--remote-instance-weight-loader-seed-instance-service-port"
    if flag not in plan.argv:
        return None
    return f"http://127.0.0.1:{plan.argv[plan.argv.index(flag) + 1]}"


def test_the_less_loaded_source_is_copied_and_compared(site: Site) -> None:
    busy, idle = site.sources
    busy.loads = loads(8, 80_000)
    (outcome,) = start_clones(site.starter, site.plans[:1], site.urls, SETTINGS)
    assert outcome.source_url == idle.url
    assert outcome.num_tensors == 2
    assert outcome.reasons == ()
    ((started,),) = site.starter.started
    assert source_of(started) == idle.url
    assert site.starter.limits_s == [SETTINGS.start_timeout_s]
    assert "/weights_checker" in idle.asked
    assert "/weights_checker" not in busy.asked


def test_a_plan_alone_starts_nothing_and_keeps_every_reason(site: Site) -> None:
    site.sources[0].ranks = []
    spec = CloneSpec.of(site.plans[0])
    plan = plan_clone(spec, [*site.urls, "http://127.0.0.1:9"], SETTINGS)
    assert plan.source is not None
    assert plan.source.url == site.urls[1]
    assert {each.url for each in plan.rejected} == {site.urls[0], "http://127.0.0.1:9"}
    assert plan.args(plan.source)[: len(spec.args)] == spec.args
    assert site.starter.started == []


def test_several_start_at_once_from_what_there_is(site: Site) -> None:
    outcomes = start_clones(site.starter, site.plans, site.urls[:1], SETTINGS)
    assert [each.name for each in outcomes] == ["new-0", "new-1", "new-2"]
    assert {each.source_url for each in outcomes} == {site.urls[0]}
    (together,) = site.starter.started
    assert len(together) == 3
    # The source digests its weights once for all of them.
    assert site.sources[0].asked.count("/weights_checker") == 1


def test_a_server_that_has_started_is_a_source_for_the_next(site: Site) -> None:
    huge = 1 << 50
    for server in (site.sources[0], *site.starter.servers.values()):
        server.ranks[0]["remote_instance_transfer_engine_info"][1]["embed.weight"] = [1, huge, 2]
    site.sources[0].loads = loads(1_000, 10_000_000)
    start_clones(site.starter, site.plans, site.urls[:1], SETTINGS)
    first, *later = site.starter.started
    assert [source_of(plan) for plan in first] == [site.urls[0]]
    assert later
    own = {plan.url for plan in site.plans}
    assert all(source_of(plan) in {*own, site.urls[0]} for turn in later for plan in turn)
    assert any(source_of(plan) in own for turn in later for plan in turn)


def test_without_the_plugin_nobody_waits_for_a_server_that_passes_nothing_on(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        site = make_site(stack, tmp_path, plugin=False)
        huge = 1 << 50
        tensors = site.sources[0].ranks[0]["remote_instance_transfer_engine_info"][1]
        tensors["embed.weight"] = [1, huge, 2]
        start_clones(site.starter, site.plans, site.urls[:1], SETTINGS)
    (together,) = site.starter.started
    assert [source_of(plan) for plan in together] == [site.urls[0]] * 3
    assert any("has no hfx-sgl" in note for note in site.starter.notes)


def test_the_second_source_takes_over_and_each_attempt_keeps_its_log(site: Site) -> None:
    first, second = sorted(site.urls)
    site.starter.fails = lambda plan: "ended" if source_of(plan) == first else None
    (outcome,) = start_clones(site.starter, site.plans[:1], site.urls, SETTINGS)
    assert outcome.source_url == second
    assert outcome.reasons == (f"{first}: ended",)
    logs = [Path(plan.log_path).name for (plan,) in site.starter.started]
    assert logs == ["new-0.log", "new-0.2.log"]


def test_after_as_many_sources_as_are_allowed_comes_the_disk(site: Site) -> None:
    site.starter.fails = lambda plan: "ended" if source_of(plan) else None
    settings = CloneSettings(max_sources=1)
    (outcome,) = start_clones(site.starter, site.plans[:1], site.urls, settings)
    assert outcome.source_url is None
    clone, disk = (plan for (plan,) in site.starter.started)
    assert source_of(clone) == sorted(site.urls)[0]
    assert disk.argv == site.plans[0].argv
    assert site.starter.notes[-1].startswith("weights: new-0 from disk")
    assert "ended" in site.starter.notes[-1]


WRONG: list[tuple[str, Callable[[FakeSglang, FakeSglang], None], str]] = [
    (
        "digests",
        lambda source, server: server.checksums.update(checksums(**{"norm.weight": "zz"})),
        "1 of 2 tensors differ from the source's: norm.weight",
    ),
    (
        "version of the server",
        lambda source, server: server.model_info.update(weight_version="v9"),
        "the new server has weight version v9, chosen was default",
    ),
    (
        "no digests",
        lambda source, server: server.refused.update({"/weights_checker": 400}),
        "it cannot be compared: /weights_checker is answered with 400",
    ),
    (
        "no digests of the source",
        lambda source, server: source.refused.update({"/weights_checker": 500}),
        "the source cannot be compared: /weights_checker is answered with 500",
    ),
    (
        "nonsense",
        lambda source, server: server.garbled.update({"/weights_checker": b'{"ranks": []}'}),
        "something else than digests",
    ),
]


@pytest.mark.parametrize(("name", "spoil", "reason"), WRONG, ids=[case[0] for case in WRONG])
def test_weights_that_are_not_the_sources_are_not_served(
    name: str, spoil: Callable[[FakeSglang, FakeSglang], None], reason: str, site: Site
) -> None:
    spoil(site.sources[0], site.starter.servers["new-0"])
    (outcome,) = start_clones(site.starter, site.plans[:1], site.urls[:1], SETTINGS)
    assert site.starter.stopped == ["new-0"]
    assert outcome.source_url is None
    assert reason in outcome.reasons[0]


def test_files_may_be_older_than_what_peers_were_updated_to(site: Site) -> None:
    source = site.sources[0]
    source.model_info["weight_version"] = "step-7"
    site.starter.fails = lambda plan: "ended" if source_of(plan) else None
    start_clones(site.starter, site.plans[:1], site.urls[:1], SETTINGS)
    clone, _ = (plan for (plan,) in site.starter.started)
    assert clone.argv[-2:] == ("--weight-version", "step-7")
    assert "peers hold version step-7" in site.starter.notes[-1]


def test_a_source_that_changes_its_version_meanwhile_is_not_believed(site: Site) -> None:
    source = site.sources[0]

    def update(plan: InstancePlan) -> str | None:
        source.model_info["weight_version"] = "v2"
        return None

    site.starter.fails = update
    (outcome,) = start_clones(site.starter, site.plans[:1], site.urls[:1], SETTINGS)
    assert outcome.source_url is None
    assert "the source has weight version v2, chosen was default" in outcome.reasons[0]


def test_a_disk_load_without_a_word_is_noticed(site: Site) -> None:
    server = site.starter.servers["new-0"]

    class Stubborn(dict[str, object]):
        def __setitem__(self, key: str, value: object) -> None:
            """Stay at the load format of a server that read the disk."""

    server.model_info = Stubborn(model_info())
    (outcome,) = start_clones(site.starter, site.plans[:1], site.urls[:1], SETTINGS)
    assert outcome.source_url is None
    said = "SGLang fell back to load format 'auto' without a word"
    assert outcome.reasons == (f"{site.urls[0]}: {said}",)


def test_with_nobody_to_ask_the_disk_is_read_at_once(site: Site) -> None:
    for source in site.sources:
        source.ranks = []
    outcomes = start_clones(site.starter, site.plans, site.urls, SETTINGS)
    assert [each.source_url for each in outcomes] == [None] * 3
    (together,) = site.starter.started
    assert [plan.argv for plan in together] == [plan.argv for plan in site.plans]
    assert len(outcomes[0].reasons) == 2
    # Said once, although it is true of three servers.
    assert sum(site.urls[0] in note and "not from" in note for note in site.starter.notes) == 1


def test_nothing_on_the_disk_either_is_an_error_with_all_reasons(site: Site) -> None:
    site.sources[0].ranks = []
    model = Path(CloneSpec.of(site.plans[0]).model_path)
    (model / "model.safetensors").unlink()
    with pytest.raises(LaunchError) as caught:
        start_clones(site.starter, site.plans[:1], site.urls[:1], SETTINGS)
    said = str(caught.value)
    assert "new-0 got its weights from nowhere" in said
    assert "offers no weights" in said
    assert f"disk: {model} holds no weights" in said
    assert site.starter.started == []


def test_a_disk_that_fails_names_who_is_left_without(site: Site) -> None:
    site.sources[0].ranks = []
    site.starter.fails = lambda plan: "ended with status 1" if plan.name == "new-1" else None
    with pytest.raises(LaunchError, match=r"^new-1 got .*disk: ended with status 1$"):
        start_clones(site.starter, site.plans, site.urls[:1], SETTINGS)


def test_a_silent_source_is_given_up_while_servers_start(site: Site) -> None:
    class Clock:
        at_s = 100.0

        def now_s(self) -> float:
            return self.at_s

    clock = Clock()
    source = site.sources[0]
    seen: list[str | None] = []

    def wait(plan: InstancePlan) -> str | None:
        watch = site.starter.watches[-1]
        if watch is None:
            return None
        seen.append(watch(plan))
        clock.at_s += 2.1
        seen.append(watch(plan))
        source.refused["/model_info"] = 503
        clock.at_s += 2.1
        seen.append(watch(plan))
        del source.refused["/model_info"]
        return seen[-1]

    site.starter.fails = wait
    (outcome,) = start_clones(
        site.starter, site.plans[:1], site.urls[:1], CloneSettings(silence_timeout_s=2.0),
        clock=clock,
    )  # fmt: skip
    assert seen == [None, None, f"its source {source.url} has not answered for 2 s"]
    assert outcome.source_url is None


@pytest.mark.parametrize(
    ("urls", "flags", "said"),
    [
        ([], (), "names nobody"),
        (["somewhere"], (), "'somewhere' is not like http://HOST:PORT"),
        (None, ("--enable-memory-saver",), "reads from disk, and says so only in its log"),
        (None, ("--pp-size", "2"), "pipeline"),
    ],
)
def test_bad_settings_are_named_before_anybody_is_asked(
    urls: list[str] | None, flags: tuple[str, ...], said: str, site: Site
) -> None:
    plan = replace(site.plans[0], argv=(*site.plans[0].argv, *flags))
    for call in (
        lambda: start_clones(site.starter, [plan], site.urls if urls is None else urls, SETTINGS),
        lambda: plan_clone(CloneSpec.of(plan), site.urls if urls is None else urls, SETTINGS),
    ):
        with pytest.raises(ConfigError) as caught:
            call()
        assert said in caught.value.problems[0]
    assert site.sources[0].asked == []
