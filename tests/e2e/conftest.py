"""Servers behind real router processes, started once for all end-to-end tests of a kind.

Each test runs on emulated servers and on real ones, SGLang on this machine's CPU. Those run in a
network namespace that has only loopback, because Mooncake's TCP transport listens on all
interfaces.
"""

from collections.abc import Iterator

import pytest
from support.fleet import Fleet, emulated_fleet, real_fleet

ONLY_REAL = {
    "test_a_grammar_that_only_sglang_knows_takes_effect": "an emulated model obeys no grammar",
    "test_responses_of_a_unified_server": "the emulated worker has no /v1/responses",
    "test_a_decode_server_with_other_pages_gets_nothing_and_lives": "emulated ones survive it",
}
"""Tests that say nothing about emulated servers, and why."""

_FLEETS = {"emulated": emulated_fleet, "real": real_fleet}


@pytest.fixture(
    scope="session",
    params=["emulated", pytest.param("real", marks=pytest.mark.e2e)],
)
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """The servers and their routers."""
    with _FLEETS[request.param](tmp_path_factory.mktemp("e2e-logs")) as fleet:
        yield fleet


@pytest.fixture(autouse=True)
def _skip_what_is_only_real(request: pytest.FixtureRequest) -> None:
    spec = getattr(request.node, "callspec", None)
    reason = ONLY_REAL.get(request.node.originalname)
    if reason is not None and spec is not None and spec.params.get("fleet") == "emulated":
        pytest.skip(reason)


@pytest.fixture
def pd_url(fleet: Fleet) -> str:
    """The router in front of the prefill and decode servers."""
    return fleet.url("router-pd")


@pytest.fixture
def unified_url(fleet: Fleet) -> str:
    """The router in front of the unified server."""
    return fleet.url("router-unified")


@pytest.fixture
def direct_url(fleet: Fleet) -> str:
    """The unified server itself."""
    return fleet.url("regular-0")
