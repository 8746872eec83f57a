import dataclasses
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.launchpad import Launchpad

from hfx_sgl.errors import LaunchError
from hfx_sgl.launch.cluster import Cluster, answers_ok
from hfx_sgl.launch.devices import Device
from hfx_sgl.launch.plan import ClusterPlan, InstancePlan

REPO_ROOT = Path(__file__).resolve().parents[3]

# The CPU takes the fork server, the others start every process directly.
both_ways = pytest.mark.parametrize("device", [Device.CPU, Device.CUDA])


def cluster_of(
    pad: Launchpad,
    device: Device,
    *servers: InstancePlan,
    timeout_s: float = 20.0,
    grace_s: float = 5.0,
    router: InstancePlan | None = None,
) -> Cluster:
    plan = ClusterPlan(device=device, servers=servers, router=router)
    return Cluster(plan, ready_timeout_s=timeout_s, stop_grace_s=grace_s, stream=pad.stream)


@both_ways
def test_everything_serves_inside_the_block_and_is_gone_after_it(
    launchpad: Launchpad, device: Device
) -> None:
    servers = [launchpad.server(), launchpad.server()]
    with cluster_of(launchpad, device, *servers) as cluster:
        assert cluster.urls == {plan.name: plan.url for plan in servers}
        assert all(answers_ok(url + "/health") for url in cluster.urls.values())
        # Two servers with a helper each, and the one they are forked from.
        assert len(launchpad.running()) == (5 if device is Device.CPU else 4)
    assert launchpad.left_over() == []
    assert "ready: server-0, server-1" in launchpad.stream.getvalue()


@both_ways
def test_a_killed_server_takes_its_helpers_along_and_spares_the_others(
    launchpad: Launchpad, device: Device
) -> None:
    victim, other = launchpad.server(), launchpad.server()
    with cluster_of(launchpad, device, victim, other) as cluster:
        assert len(launchpad.running()) == (5 if device is Device.CPU else 4)
        cluster.kill(victim.name)
        assert cluster.instances[victim.name].status == -signal.SIGKILL
        assert cluster.urls == {other.name: other.url}
        assert answers_ok(other.url + "/health")
        assert cluster.poll() == []
        num_left = 3 if device is Device.CPU else 2
        assert len(launchpad.settle_at(num_left)) == num_left


@both_ways
def test_an_unasked_end_is_reported_once(launchpad: Launchpad, device: Device) -> None:
    server = launchpad.server()
    with cluster_of(launchpad, device, server) as cluster:
        instance = cluster.instances[server.name]
        os.kill(instance.pid, signal.SIGKILL)
        ended = cluster.poll(10.0)
        assert [i.plan.name for i in ended] == [server.name]
        assert instance.status == -signal.SIGKILL
        assert cluster.poll() == []


@both_ways
def test_a_server_can_be_added_and_a_dead_one_started_again(
    launchpad: Launchpad, device: Device
) -> None:
    first, second = launchpad.server(), launchpad.server()
    with cluster_of(launchpad, device, first) as cluster:
        cluster.add(second)
        assert set(cluster.urls) == {first.name, second.name}
        with pytest.raises(LaunchError, match="already running"):
            cluster.add(first)
        cluster.kill(first.name)
        cluster.add(first)
        assert answers_ok(first.url + "/health")


@both_ways
def test_a_server_that_crashes_ends_the_start_and_shows_its_log(
    launchpad: Launchpad, device: Device
) -> None:
    with (
        pytest.raises(LaunchError, match="server-1 ended before it was ready"),
        cluster_of(launchpad, device, launchpad.server(), launchpad.server("crash")),
    ):
        pytest.fail("the block must not be entered")
    assert launchpad.left_over() == []
    shown = launchpad.stream.getvalue()
    assert "server-1 ended with status 3" in shown
    assert "| this server cannot start" in shown


@both_ways
def test_a_server_that_never_gets_ready_is_given_up(launchpad: Launchpad, device: Device) -> None:
    with (
        pytest.raises(LaunchError, match="not ready after 3 s: server-0"),
        cluster_of(launchpad, device, launchpad.server("never_ready"), timeout_s=3.0),
    ):
        pytest.fail("the block must not be entered")
    assert launchpad.left_over() == []
    assert "| serving" in launchpad.stream.getvalue()


@both_ways
def test_a_server_that_ignores_sigterm_is_killed(launchpad: Launchpad, device: Device) -> None:
    server = launchpad.server("stubborn")
    with cluster_of(launchpad, device, server, grace_s=0.5) as cluster:
        instance = cluster.instances[server.name]
    assert instance.status == -signal.SIGKILL
    assert launchpad.left_over() == []


@both_ways
def test_a_failed_addition_leaves_the_rest_running(launchpad: Launchpad, device: Device) -> None:
    server = launchpad.server()
    with cluster_of(launchpad, device, server) as cluster:
        with pytest.raises(LaunchError):
            cluster.add(launchpad.server("crash"))
        assert set(cluster.urls) == {server.name}


def test_the_router_starts_after_the_servers_and_stops_before_them(launchpad: Launchpad) -> None:
    server = launchpad.server(role=None)
    server = dataclasses.replace(server, role=launchpad.server().role)
    router = launchpad.server(role=None)
    with cluster_of(launchpad, Device.CUDA, server, router=router) as cluster:
        assert list(cluster.urls) == [server.name, router.name]
    shown = launchpad.stream.getvalue()
    assert shown.index(f"ready: {server.name}") < shown.index(f"ready: {router.name}")


def test_a_taken_port_is_named_before_anything_starts(launchpad: Launchpad) -> None:
    server = launchpad.server()
    with (
        socket.create_server(("127.0.0.1", int(server.url.rpartition(":")[2]))),
        pytest.raises(LaunchError, match=f"{server.name} cannot listen on {server.url}"),
        cluster_of(launchpad, Device.CPU, server),
    ):
        pytest.fail("the block must not be entered")
    assert not list(launchpad.log_dir.glob("*"))


def test_a_fork_server_that_cannot_import_shows_why(launchpad: Launchpad) -> None:
    (launchpad.folder / "sglang/srt/models/registry.py").write_text("import no_such_module\n")
    with (
        pytest.raises(LaunchError, match="the fork server ended with status 1"),
        cluster_of(launchpad, Device.CPU, launchpad.server()),
    ):
        pytest.fail("the block must not be entered")
    assert "No module named 'no_such_module'" in launchpad.stream.getvalue()


def test_a_start_given_up_during_the_imports_does_not_wait_for_them(launchpad: Launchpad) -> None:
    registry = launchpad.folder / "sglang/srt/models/registry.py"
    registry.write_text("import time; time.sleep(40)\n")
    with (
        pytest.raises(LaunchError, match="importing SGLang took longer"),
        cluster_of(launchpad, Device.CPU, launchpad.server(), timeout_s=1.0),
    ):
        pytest.fail("the block must not be entered")
    assert launchpad.left_over() == []


def test_what_servers_leave_among_the_temporary_files_is_removed(
    launchpad: Launchpad, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    server = launchpad.server("litter")
    with cluster_of(launchpad, Device.CPU, server):
        assert len(list(tmp_path.glob("hfx-*/litter*"))) == 1
    assert not list(tmp_path.glob("hfx-*"))
    assert not list(tmp_path.glob("litter*"))


def test_a_forked_server_is_set_up_like_a_started_one(launchpad: Launchpad) -> None:
    servers = [launchpad.server(), launchpad.server()]
    with cluster_of(launchpad, Device.CPU, *servers):
        for server in servers:
            log = Path(server.log_path).read_text()
            assert "plugins loaded" in log
            assert f"start method fork of {server.name}" in log


LAUNCHER = """\
import sys, time
from hfx_sgl.launch.cluster import Cluster
from hfx_sgl.launch.devices import Device
from hfx_sgl.launch.plan import ClusterPlan, InstancePlan
from hfx_sgl.types import Role
plan = InstancePlan(name="s", role=Role.REGULAR, argv=eval(sys.argv[2]), env=eval(sys.argv[3]),
                    url=sys.argv[4], log_path=sys.argv[5])
with Cluster(ClusterPlan(device=Device(sys.argv[1]), servers=(plan,), router=None)):
    print("up", flush=True)
    time.sleep(600)
"""


@both_ways
def test_nothing_outlives_a_launcher_that_is_killed(launchpad: Launchpad, device: Device) -> None:
    server = launchpad.server()
    arguments = [device.value, repr(server.argv), repr(dict(server.env)), server.url]
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, *arguments, server.log_path],
        cwd=REPO_ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == "up\n"
        started = launchpad.running()
        assert len(started) == (3 if device is Device.CPU else 2)
        launcher.kill()
    # A directly started server is ended by the kernel and takes its helpers along by itself,
    # which this stand-in does not do; the fork server sees to them.
    expected = [] if device is Device.CPU else started[1:]
    settled = launchpad.settle_at(len(expected))
    for helper in expected:
        helper.kill()
    assert settled == expected


@both_ways
def test_of_several_that_are_tried_those_that_serve_stay(
    launchpad: Launchpad, device: Device
) -> None:
    first = launchpad.server()
    good, bad, late = (launchpad.server(each) for each in ("ready", "crash", "never_ready"))
    with cluster_of(launchpad, device, first) as cluster:
        failed = cluster.try_add(good, bad, late, timeout_s=3.0)
        assert failed == {bad.name: "ended with status 3", late.name: "not ready after 3 s"}
        assert set(cluster.urls) == {first.name, good.name}
        assert cluster.poll() == [], "what was stopped is no surprise"
        again = dataclasses.replace(bad, argv=(*bad.argv[:-1], "ready"))
        assert cluster.try_add(again) == {}
        assert answers_ok(again.url + "/health")
    assert launchpad.left_over() == []


def test_there_may_be_no_point_in_waiting(launchpad: Launchpad) -> None:
    hopeless = launchpad.server("never_ready")
    asked: list[str] = []

    def give_up(plan: InstancePlan) -> str | None:
        asked.append(plan.name)
        return "the source is gone" if len(asked) == 3 else None

    with cluster_of(launchpad, Device.CUDA) as cluster:
        failed = cluster.try_add(hopeless, timeout_s=20.0, give_up=give_up)
        assert failed == {hopeless.name: "the source is gone"}
        assert asked == [hopeless.name] * 3
        assert cluster.urls == {}


@both_ways
def test_somebody_else_may_start_the_servers_before_the_router(
    launchpad: Launchpad, device: Device
) -> None:
    servers = [launchpad.server(), launchpad.server()]
    router = launchpad.server(role=None)
    seen: list[list[str]] = []

    def one_by_one(cluster: Cluster, plans: Sequence[InstancePlan]) -> None:
        for plan in plans:
            assert cluster.try_add(plan) == {}
            seen.append(list(cluster.urls))

    plan = ClusterPlan(device=device, servers=tuple(servers), router=router)
    with Cluster(plan, start_servers=one_by_one, stream=launchpad.stream) as cluster:
        assert seen == [[servers[0].name], [servers[0].name, servers[1].name]]
        assert router.name in cluster.urls


def test_when_the_servers_cannot_be_started_nothing_is_left(launchpad: Launchpad) -> None:
    server = launchpad.server()

    def fail(cluster: Cluster, plans: Sequence[InstancePlan]) -> None:
        cluster.add(*plans)
        raise LaunchError("no weights anywhere")

    plan = ClusterPlan(device=Device.CUDA, servers=(server,), router=None)
    with (
        pytest.raises(LaunchError, match="no weights anywhere"),
        Cluster(plan, start_servers=fail, stream=launchpad.stream),
    ):
        pass
    assert launchpad.left_over() == []
