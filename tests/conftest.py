"""How many cases hypothesis generates, and the servers that tests ask for."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from rlm_testkit.servers import Cluster, SentinelSet, Server, redis_server, valkey

settings.register_profile("default", deadline=None)
settings.register_profile(
    "oracle", deadline=None, max_examples=20_000, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def program(name: str) -> str:
    """The program of a server, or a skipped test where pip has none for this interpreter."""
    try:
        return valkey() if name == "valkey" else redis_server()
    except ModuleNotFoundError as error:
        pytest.skip(f"no {name}: {error}")


@pytest.fixture(scope="session", params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of each kind, shared by the tests of one process: use a prefix of your own."""
    server = Server(program(request.param))
    yield server
    server.stop()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that a test may kill; it keeps its data."""
    server = Server(program("valkey"), "--appendonly", "yes", "--appendfsync", "always")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster of three masters with a replica each, shared by the tests of one process."""
    cluster = Cluster(program("valkey"))
    yield cluster
    cluster.stop()


@pytest.fixture
def sentinels() -> Iterator[SentinelSet]:
    """A master with a replica under three Sentinels, for a test to kill."""
    sentinels = SentinelSet(program("valkey"))
    yield sentinels
    sentinels.stop()
