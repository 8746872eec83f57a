"""Asking servers over real sockets, well-behaved ones and others."""

import socket
import threading
import time

import pytest
from hfx_transfer.sglang.weights.discover import find_servers, url_problem
from hfx_transfer.sglang.weights.http_json import ask_json
from hfx_transfer.sglang.weights.probe import probe_source
from support.fake_sglang import fake_sglang, loads, rank_info, server_info

from hfx_sgl.errors import TransferError, TransferFault

TIMEOUT_S = 5.0
SHORT_S = 0.3
SLACK_S = 3.0
WEIGHTS = "/remote_instance_transfer_engine_info"


def test_a_source_says_all_that_is_asked() -> None:
    two = server_info(tp_size=2)
    ranks = [rank_info("127.0.0.1:1600"), rank_info("127.0.0.1:1601")]
    with fake_sglang(server_info=two, ranks=ranks, loads=loads(3, 100)) as fake:
        report = probe_source(fake.url, timeout_s=TIMEOUT_S)
    assert report.url == fake.url
    assert [rank.session for rank in report.ranks] == ["127.0.0.1:1600", "127.0.0.1:1601"]
    assert report.size_bytes == 2 * 144
    assert report.load.num_requests == 3
    assert report.identity.served_model_name == "tiny"
    assert fake.asked.count(WEIGHTS) == 2


def fault_of(url: str, timeout_s: float = TIMEOUT_S) -> tuple[TransferFault, str]:
    started_at_s = time.monotonic()
    with pytest.raises(TransferError) as caught:
        probe_source(url, timeout_s=timeout_s)
    assert time.monotonic() - started_at_s < timeout_s + SLACK_S
    return caught.value.fault, str(caught.value)


def test_a_server_that_offers_nothing_is_told_from_one_that_fails() -> None:
    with fake_sglang(ranks=[]) as fake:
        fault, text = fault_of(fake.url)
    assert fault is TransferFault.UNAVAILABLE
    assert "--seed-weights" in text


def test_a_rank_that_is_missing_is_named() -> None:
    with fake_sglang(server_info=server_info(tp_size=2)) as fake:
        _, text = fault_of(fake.url)
    assert text.startswith("rank 1 offers no weights")


def test_ranks_that_offer_different_tensors_are_refused() -> None:
    ranks = [rank_info(), rank_info(extra=[1, 1, 1])]
    with fake_sglang(server_info=server_info(tp_size=2), ranks=ranks) as fake:
        fault, _ = fault_of(fake.url)
    assert fault is TransferFault.INCOMPATIBLE


def test_a_key_is_not_sent_and_its_want_is_said() -> None:
    with fake_sglang(refused={WEIGHTS: 401}) as fake:
        fault, text = fault_of(fake.url)
    assert fault is TransferFault.UNAUTHORIZED
    assert "wants a key" in text


@pytest.mark.parametrize("path", ["/model_info", "/server_info", WEIGHTS, "/v1/loads"])
def test_silence_at_any_question_ends_within_the_limit(path: str) -> None:
    with fake_sglang(silent={path}) as fake:
        fault, text = fault_of(fake.url, SHORT_S)
    assert fault is TransferFault.FIRST_CONTACT_TIMEOUT
    assert path in text


def test_an_answer_that_drips_for_ever_ends_within_the_limit() -> None:
    with fake_sglang(dripping={"/model_info"}) as fake:
        fault, _ = fault_of(fake.url, SHORT_S)
    assert fault is TransferFault.FIRST_CONTACT_TIMEOUT


@pytest.mark.parametrize("garbage", [b"", b"<html>", b"[1, 2", b"{}", b"[]", b"null", b"\xff\xfe"])
def test_garbage_is_a_protocol_fault(garbage: bytes) -> None:
    with fake_sglang(garbled={"/model_info": garbage}) as fake:
        fault, _ = fault_of(fake.url)
    assert fault is TransferFault.PROTOCOL


def test_something_that_speaks_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(TIMEOUT_S)

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")
                # Read to the end, or closing would discard what was said.
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=speak)
        thread.start()
        fault, _ = fault_of(f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert fault is TransferFault.PROTOCOL


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    fault, text = fault_of(f"http://127.0.0.1:{port}")
    assert fault is TransferFault.UNREACHABLE
    assert "Connection refused" in text


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "http://127.0.0.1:1/below"])
def test_what_sglangs_loader_could_not_ask_is_not_asked(url: str) -> None:
    assert fault_of(url)[0] is TransferFault.INCOMPATIBLE


def test_a_question_with_a_body_is_posted() -> None:
    with fake_sglang() as fake:
        answer = ask_json(fake.url, "/weights_checker", timeout_s=TIMEOUT_S, body={"a": 1})
    assert answer["success"] is True


def test_a_router_stands_for_its_healthy_workers() -> None:
    workers = [
        {"url": "http://a:1", "is_healthy": True},
        {"url": "http://b:1", "is_healthy": False},
        {"url": "http://c:1", "is_healthy": True, "is_draining": True},
        {"url": "grpc://d:1"},
    ]
    with fake_sglang(workers=workers) as router, fake_sglang() as server:
        named = [server.url, f"{router.url}/", server.url]
        urls, rejected = find_servers(named, timeout_s=TIMEOUT_S)
    assert urls == [server.url, "http://a:1"]
    assert {each.url: each.reason for each in rejected} == {
        "http://b:1": "the router holds it for unhealthy",
        "http://c:1": "the router is taking it out of service",
        "grpc://d:1": "no URL",
    }


def test_a_router_that_wants_a_key_and_one_that_is_gone_are_reasons() -> None:
    with fake_sglang(refused={"/workers": 403}) as router:
        urls, rejected = find_servers([router.url, "http://127.0.0.1:9"], timeout_s=TIMEOUT_S)
    assert urls == []
    assert [each.url for each in rejected] == [router.url, "http://127.0.0.1:9"]
    assert "wants a key" in rejected[0].reason


@pytest.mark.parametrize(
    "url", ["", "host:1", "http://", "http://host", "http://host:port", "http://[::1", "ftp://h:1"]
)
def test_what_is_no_url_of_a_server(url: str) -> None:
    assert url_problem(url) is not None


@pytest.mark.parametrize("url", ["http://host:1", "http://[::1]:1/", "https://h:1"])
def test_what_is_one(url: str) -> None:
    assert url_problem(url) is None
