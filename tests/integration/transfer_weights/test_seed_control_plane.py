"""What a seed answers over HTTP, to good and to bad questions."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from hfx_transfer.engine.fake import FakeEngine, FakeNetwork
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.weights import Seed, SeedSettings
from hfx_transfer.weights.chunks import from_bitmap
from hfx_transfer.weights.engines import EngineSet
from hfx_transfer.weights.holding import Holding, hold
from hfx_transfer.weights.layout import TensorSpec, lay_out
from hfx_transfer.weights.reseed import Reseeder
from hfx_transfer.weights.wire import unpack_bitmap
from support.weights import Watch, within

from hfx_sgl.clock import WallClock
from hfx_sgl.errors import TransferError

TOKEN = "open sesame"
SIZE_BYTES = 20_000


def make_holding(*, is_complete: bool = True, generation: int = 0) -> Holding:
    layout = lay_out([TensorSpec(name="w", dtype="U8", shape=(SIZE_BYTES,))])
    slab = HostSlab(layout.slab_sizes_bytes[0])
    full = hold(layout, [slab], chunk_bytes=4096, generation=generation)
    if is_complete:
        return full
    return Holding(layout, [slab], full.identity, is_frozen=False, is_complete=False)


def engines() -> EngineSet:
    network = FakeNetwork()
    return EngineSet(lambda backend: FakeEngine(network, "seed", backend))


@pytest.fixture
def holding() -> Holding:
    return make_holding(is_complete=False)


@pytest.fixture
def seed(holding: Holding) -> Iterator[Seed]:
    settings = SeedSettings(backends=(Backend.SOCKET,), token=TOKEN)
    with Seed(holding, engines(), settings) as seed:
        yield seed


def ask(
    seed: Seed, path: str, method: str = "GET", body: bytes | None = None, token: str | None = TOKEN
) -> tuple[int, Any]:
    request = urllib.request.Request(seed.url + path, data=body, method=method)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.loads(response.read() or b"null")
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, json.loads(exc.read() or b"null")


@pytest.mark.parametrize("token", [None, "", "open", "open sesam", "Open sesame", "öpen"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/manifest"), ("GET", "/chunks"), ("POST", "/lease"), ("PUT", "/lease/x"),
     ("DELETE", "/lease/x")],
)  # fmt: skip
def test_nothing_is_told_without_the_token(
    seed: Seed, method: str, path: str, token: str | None
) -> None:
    status, answer = ask(seed, path, method, token=token)
    assert status == 401
    assert answer == {"fault": "unauthorized", "message": "the token is missing or wrong"}


def lease_request(seed: Seed, **changes: object) -> bytes:
    manifest = seed.manifest
    fields = {"model_hash": manifest.model_hash, "generation": manifest.generation, **changes}
    return json.dumps(fields).encode()


def test_life_of_a_lease(seed: Seed) -> None:
    status, grant = ask(seed, "/lease", "POST", lease_request(seed))
    assert status == 201
    assert grant["duration_s"] == 15.0
    path = f"/lease/{grant['lease_id']}"
    assert ask(seed, path, "PUT") == (200, grant)
    assert seed.num_leases == 1
    assert ask(seed, path, "DELETE") == (204, None)
    assert seed.num_leases == 0
    assert ask(seed, path, "DELETE") == (204, None)
    status, refusal = ask(seed, path, "PUT")
    assert (status, refusal["fault"]) == (410, "lease_expired")


@pytest.mark.parametrize(
    ("body", "status", "fault"),
    [
        (b"", 400, "protocol"),
        (b"[]", 400, "protocol"),
        (b"\xff", 400, "protocol"),
        (b'{"generation": 0}', 400, "protocol"),
        (b'{"generation": "0", "model_hash": "x"}', 400, "protocol"),
        (b'{"generation": 0, "model_hash": "x"}', 409, "generation_changed"),
    ],
    ids=repr,
)
def test_bad_requests_for_leases(seed: Seed, body: bytes, status: int, fault: str) -> None:
    found, refusal = ask(seed, "/lease", "POST", body)
    assert (found, refusal["fault"]) == (status, fault)
    assert seed.num_leases == 0


def test_body_that_is_too_long_is_refused(seed: Seed) -> None:
    request = urllib.request.Request(seed.url + "/lease", data=b" " * 100_000, method="POST")
    request.add_header("Authorization", f"Bearer {TOKEN}")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    with caught.value:
        assert caught.value.code == 413


def test_chunks_are_told_as_they_are_verified(seed: Seed, holding: Holding) -> None:
    _, state = ask(seed, "/chunks")
    assert (state["num_chunks"], state["num_verified"]) == (5, 0)
    holding.verified.add(3)
    _, state = ask(seed, "/chunks?known=0&wait_s=20")
    assert from_bitmap(unpack_bitmap(state["bitmap"]), 5) == {3}


def test_answer_is_held_back_until_there_is_news(seed: Seed, holding: Holding) -> None:
    answers = []

    def wait() -> None:
        answers.append(ask(seed, "/chunks?known=0&wait_s=20"))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.3)
    assert not answers
    holding.verified.add(1)
    with within(1):
        thread.join(20)
    assert answers[0][1]["num_verified"] == 1


def test_answer_is_held_back_no_longer_than_asked(seed: Seed) -> None:
    began_at_s = time.monotonic()
    with within(0.3):
        assert ask(seed, "/chunks?known=0&wait_s=0.3")[1]["num_verified"] == 0
    assert time.monotonic() - began_at_s >= 0.25


@pytest.mark.parametrize("query", ["known=x", "wait_s=x", "wait_s=nan", "wait_s=-1"])
def test_bad_questions_about_chunks(seed: Seed, query: str) -> None:
    status, refusal = ask(seed, f"/chunks?{query}")
    assert (status, refusal["fault"]) == (400, "protocol")


def test_nothing_is_served_after_a_withdrawal(seed: Seed) -> None:
    assert seed.withdraw()
    for path in ("/manifest", "/chunks"):
        status, refusal = ask(seed, path)
        assert (status, refusal["fault"]) == (503, "unavailable")


def test_discarded_holding_is_served_no_longer() -> None:
    settings = SeedSettings(backends=(Backend.SOCKET,))
    reseeder = Reseeder(settings, engines(), clock=WallClock(), observer=Watch())
    first = make_holding(is_complete=False)
    reseeder.serve(first)
    assert reseeder.seed is not None
    reseeder.discard(first)
    with pytest.raises(TransferError, match="nothing is served"):
        _ = reseeder.seed.manifest
    again = make_holding()
    reseeder.serve(again)
    assert reseeder.seed.holding is again
    reseeder.close()
    with pytest.raises(ValueError, match="closed"):
        again.slabs[0].view()


def test_port_that_is_taken(seed: Seed) -> None:
    port = int(seed.url.rpartition(":")[2])
    with pytest.raises(TransferError, match=r"cannot listen on 127\.0\.0\.1"):
        Seed(make_holding(), engines(), SeedSettings(port=port, backends=(Backend.SOCKET,)))
