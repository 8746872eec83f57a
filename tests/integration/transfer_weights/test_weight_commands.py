"""`hfx-weights` as people run it."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.metrics import TransferMetrics
from hfx_transfer.weights import SeedSettings, load_weights, serve_weights
from hfx_transfer.weights.token import TOKEN_VARIABLE
from support.weights import HangingReceiver, SeedProcess, by, file_contents

from hfx_sgl.errors import TransferError, TransferFault

StartSeed = Callable[..., SeedProcess]


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hfx_transfer.weights", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, **environ},
    )


def test_pull_writes_what_was_served(
    weights_file: Path, start_seed: StartSeed, tmp_path: Path
) -> None:
    seed = start_seed(weights_file)
    done = run("pull", seed.url, "--output", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    (path,) = map(Path, done.stdout.split())
    assert path.parent == tmp_path / "out"
    assert file_contents(tmp_path / "out") == file_contents(weights_file)
    assert "13 tensors" in done.stderr
    assert "verified" in done.stderr
    assert f"{seed.url}: finished, {24 << 20} bytes by shm (shm)" in done.stderr
    assert seed.terminate() == 0


def test_pull_from_disk_says_that_nothing_was_verified(weights_file: Path, tmp_path: Path) -> None:
    done = run(
        "pull", "http://127.0.0.1:1", "--fallback", str(weights_file),
        "--output", str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "NOT VERIFIED" in done.stderr
    assert "http://127.0.0.1:1: failed (unreachable" in done.stderr
    assert file_contents(tmp_path / "out") == file_contents(weights_file)


def test_pull_that_finds_nobody(tmp_path: Path) -> None:
    done = run("pull", "http://127.0.0.1:1", "--output", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "no source is left" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_pull_that_cannot_serve_says_so(weights_file: Path, start_seed: StartSeed) -> None:
    seed = start_seed(weights_file)
    done = run("pull", seed.url, "--serve-port", seed.url.rpartition(":")[2])
    assert done.returncode == 1
    assert "what was loaded cannot be served on" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["pull", "http://127.0.0.1:1"], "output: pass --output or --serve-port"),
        (["pull", "--output", "x"], "url: pass the URL of a seed"),
        (["serve", "x", "--host", "0.0.0.0"], "advertise_host|token"),
        (["serve", "x", "--backends", "pigeon"], "backends: pigeon"),
        (["serve", "x", "--chunk-mib", "0"], "chunk_bytes: must be between"),
        (["serve", "x", "--lease-secs", "0"], "duration_s: must be more than 0"),
        (["plan", "--size-gb", "1", "--receivers", "0"], "receivers: must be at least one"),
        (["pull", "u", "--output", "x", "--token-file", "/missing"], "token_file"),
    ],
)
def test_bad_flags(arguments: list[str], problem: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    assert any(line.startswith("hfx-weights: ") for line in done.stderr.splitlines())
    assert any(word in done.stderr for word in problem.split("|"))
    assert "Traceback" not in done.stderr


def test_serve_of_nothing(tmp_path: Path) -> None:
    done = run("serve", str(tmp_path))
    assert done.returncode == 1
    assert "no safetensors file in it" in done.stderr


def test_plan_lists_for_each_receiver_whom_to_ask() -> None:
    done = run("plan", "--size-gb", "16", "--receivers", "3", "--disk-mbyte", "500")
    assert done.returncode == 0
    asks = dict(
        line.split(": pull --at-once 1 ") for line in done.stdout.splitlines() if ": pull" in line
    )
    assert sorted(asks) == ["receiver-0", "receiver-1", "receiver-2"]
    for receiver, sources in asks.items():
        parent, *rest = sources.split()
        assert (parent == "seed-0") == (not rest)
        assert parent != receiver
        if rest:
            assert " ".join(rest) == asks[parent]


def metrics_of(url: str, token: str | None = None) -> tuple[int, str]:
    """Status and text of a control plane's /metrics."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{url}/metrics", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_counts_of_both_sides_are_there_to_be_scraped(
    weights_file: Path, start_seed: StartSeed, start_receiver: Callable[[str], SeedProcess]
) -> None:
    seed = start_seed(weights_file)
    receiver = start_receiver(seed.url)
    status, text = metrics_of(receiver.url)
    assert status == 200
    moved = 'hfx_transfer_bytes_total{backend="shm",direction="in"}'
    (num_bytes,) = (line.split()[1] for line in text.splitlines() if line.startswith(moved))
    assert float(num_bytes) == 24 << 20
    assert 'hfx_transfer_duration_seconds_count{kind="weights",outcome="ok"} 1.0' in text
    assert "hfx_transfer_leases 0.0" in metrics_of(seed.url)[1]
    loading = HangingReceiver(seed.url)
    assert "hfx_transfer_leases 1.0" in metrics_of(seed.url)[1]
    loading.kill()


def test_whoever_scrapes_needs_the_token_too(weights_file: Path) -> None:
    counts = TransferMetrics()
    settings = SeedSettings(token="open sesame", backends=(Backend.SOCKET,))
    with serve_weights(weights_file, settings=settings, render_metrics=counts.render) as seed:
        assert metrics_of(seed.url)[0] == 401
        assert metrics_of(seed.url, "open")[0] == 401
        status, text = metrics_of(seed.url, "open sesame")
        assert (status, text) == (200, counts.render().decode())
        assert "hfx_transfer_leases" in text
    with serve_weights(weights_file, settings=settings) as seed:
        assert metrics_of(seed.url, "open sesame")[0] == 404, "nobody said what to show"


def test_token_is_asked_for_on_both_planes(weights_file: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("open sesame\n")
    settings = SeedSettings(token="open sesame", backends=(Backend.SOCKET,))
    with serve_weights(weights_file, settings=settings) as seed:
        for wrong in (None, "open", "open sesame!"):
            with pytest.raises(TransferError, match="unauthorized") as caught:
                load_weights(from_=seed.url, token=wrong, settings=by(Backend.SOCKET))
            assert caught.value.fault is TransferFault.NO_SOURCE_LEFT
        assert load_weights(from_=seed.url, token="open sesame").is_verified
        pull = ("pull", seed.url, "--output", str(tmp_path / "out"))
        assert run(*pull).returncode == 1
        assert run(*pull, **{TOKEN_VARIABLE: "open sesame"}).returncode == 0
        assert run(*pull, "--token-file", str(token)).returncode == 0
