"""Real SGLang servers on this machine's CPU, started once for all end-to-end tests.

Everything runs in a network namespace that has only loopback, because Mooncake's TCP transport
listens on all interfaces.
"""

from collections.abc import Iterator

import pytest
from support.fleet import Fleet, running_fleet


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The servers and their routers."""
    with running_fleet(tmp_path_factory.mktemp("e2e-logs")) as fleet:
        yield fleet


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
