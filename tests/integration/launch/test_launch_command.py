import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from support.launchpad import Launchpad

from hfx_sgl.launch import netns

REPO_ROOT = Path(__file__).resolve().parents[3]


UNPRIVILEGED = ("setpriv", "--bounding-set", "-sys_admin")


@pytest.fixture
def needs_privilege() -> None:
    """Skip where this process cannot, or need not, make a network namespace."""
    if netns.is_isolated() or not netns.can_isolate():
        pytest.skip("may not make a network namespace, or is in a private one already")


@contextmanager
def launcher(
    pad: Launchpad, behaviour: str, *flags: str, wrapper: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[str]]:
    """Run the script with the stand-in for SGLang; its model path says how servers behave."""
    model = pad.folder / behaviour
    model.mkdir(exist_ok=True)
    command = [
        *wrapper, sys.executable, str(REPO_ROOT / "scripts" / "launch_pd_cluster"),
        "--device", "cpu", "--sglang-python", sys.executable, "--model-path", str(model),
        "--no-router", "--base-port", "24200", "--log-dir", str(pad.log_dir), *flags,
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        env={**os.environ, **pad.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    shown = ""
    for line in process.stdout:
        shown += line
        if text in line:
            return shown
    raise AssertionError(f"{text!r} was not shown, but:\n{shown}")


def only_server(process: subprocess.Popen[str]) -> psutil.Process:
    """Return the one server, which is the only child of the fork server."""
    (fork_server,) = psutil.Process(process.pid).children()
    (server,) = fork_server.children()
    return server


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_everything_with_status_0(launchpad: Launchpad, signum: int) -> None:
    with launcher(launchpad, "ready") as process:
        shown = read_until(process, "Ctrl-C")
        assert "prefill-0    http://127.0.0.1:24200" in shown
        assert "decode-0     http://127.0.0.1:24210" in shown
        # The launcher, the zygote, and two servers with a helper each.
        assert len(launchpad.running()) == 6
        process.send_signal(signum)
        assert process.wait(20) == 0
    assert launchpad.left_over() == []


@pytest.mark.usefixtures("needs_privilege")
def test_regular_servers_are_shown_with_a_command_to_try(launchpad: Launchpad) -> None:
    with launcher(launchpad, "ready", "--regular", "1") as process:
        shown = read_until(process, "Ctrl-C")
        prefix = f"nsenter --target {process.pid} --net curl"
        assert f"  {prefix} -N http://127.0.0.1:24200/v1/chat/completions" in shown
        theirs = f"/proc/{only_server(process).pid}/ns/net"
        assert os.readlink("/proc/self/ns/net") != os.readlink(theirs)
        process.terminate()
        process.wait(20)


def test_the_last_servers_end_is_reported_and_ends_the_launcher(launchpad: Launchpad) -> None:
    with launcher(launchpad, "ready", "--regular", "1", "--no-netns") as process:
        read_until(process, "Ctrl-C")
        only_server(process).kill()
        assert process.wait(20) == 1
        assert process.stderr is not None
        errors = process.stderr.read()
    assert "regular-0 ended with SIGKILL" in errors
    assert "error: every server has ended" in errors
    assert launchpad.left_over() == []


def test_a_start_that_fails_ends_with_status_1(launchpad: Launchpad) -> None:
    with launcher(launchpad, "crash") as process:
        assert process.wait(20) == 1
        assert process.stderr is not None
        assert "| this server cannot start" in process.stderr.read()
    assert launchpad.left_over() == []


@pytest.mark.usefixtures("needs_privilege")
def test_a_hub_id_is_refused_where_no_hub_can_be_reached() -> None:
    command = [sys.executable, str(REPO_ROOT / "scripts" / "launch_pd_cluster")]
    done = subprocess.run(
        [*command, "--device", "cpu", "--model-path", "org/model", "--no-router"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("model_path: org/model is not a folder on this machine")


@pytest.mark.usefixtures("needs_privilege")
def test_without_the_privilege_a_warning_takes_the_place_of_isolation(launchpad: Launchpad) -> None:
    with launcher(launchpad, "ready", "--regular", "1", wrapper=UNPRIVILEGED) as process:
        shown = read_until(process, "Ctrl-C")
        assert "  curl -N http://127.0.0.1:24200/v1/chat/completions" in shown
        process.terminate()
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert "warning: without the right to make a network namespace" in process.stderr.read()


ISOLATED = """\
import os, socket
from hfx_sgl.launch import netns
outside = os.readlink("/proc/self/ns/net")
netns.isolate()
inside = os.readlink("/proc/self/ns/net")
netns.isolate()
assert os.readlink("/proc/self/ns/net") == inside != outside, "one namespace of our own"
assert netns.is_isolated()
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    with socket.create_server((host, 24001), family=family) as server:
        socket.create_connection(server.getsockname()[:2]).close()
try:
    socket.create_connection(("192.0.2.1", 9), timeout=5)
except OSError as exc:
    print("outside:", exc.strerror)
"""


@pytest.mark.usefixtures("needs_privilege")
def test_an_isolated_process_has_loopback_and_nothing_else() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ISOLATED], cwd=REPO_ROOT, capture_output=True, text=True, timeout=20
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout == "outside: Network is unreachable\n"


BEFORE_ANYTHING = 20.0


def test_an_environment_without_sglang_is_named_before_a_peer_is_asked(
    launchpad: Launchpad,
) -> None:
    flags = ("--regular", "1", "--bootstrap-from", "http://127.0.0.1:9")
    with launcher(launchpad, "ready", *flags) as process:
        assert process.wait(BEFORE_ANYTHING) == 2
        assert process.stderr is not None
        errors = process.stderr.read()
    assert f"sglang_python: {sys.executable} has no sglang" in errors
    assert launchpad.left_over() == []


def test_servers_that_offer_their_weights_are_shown_with_a_command_for_more(
    launchpad: Launchpad,
) -> None:
    with launcher(launchpad, "ready", "--regular", "1", "--seed-weights", "--no-netns") as process:
        shown = read_until(process, "Ctrl-C")
        assert "--bootstrap-from http://127.0.0.1:24200 --base-port 24210" in shown
        process.terminate()
        assert process.wait(20) == 0
