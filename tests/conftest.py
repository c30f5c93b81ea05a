"""Set how many examples hypothesis generates, and start the servers that tests need."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from rlm_testkit.servers import Cluster, SentinelSet, Server, redis_server, valkey

settings.register_profile("default", deadline=None, max_examples=50)
settings.register_profile(
    "oracle", deadline=None, max_examples=20_000, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True, scope="module")
def outbox_without_disk(request: pytest.FixtureRequest) -> Iterator[None]:
    """Do not wait for the disk at each step of an outbox: only a power failure needs that."""
    with pytest.MonkeyPatch.context() as patch:
        if "outbox" in request.path.name and "integration" not in request.path.parts:
            patch.setattr("ratelimit_mail.outbox.schema.SYNCHRONOUS", "OFF")
        yield


def program(name: str) -> str:
    """Return the path of a server's program; skip the test if pip has not installed it."""
    try:
        return valkey() if name == "valkey" else redis_server()
    except ModuleNotFoundError as error:
        pytest.skip(f"no {name}: {error}")


@pytest.fixture(scope="session", params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Start a server of each kind, shared by the tests of a process, which use unique prefixes."""
    server = Server(program(request.param))
    yield server
    server.stop()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """Start a server with persistence, which a test may kill."""
    server = Server(program("valkey"), "--appendonly", "yes", "--appendfsync", "always")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Start a cluster of three masters with a replica each, shared by the tests of a process."""
    cluster = Cluster(program("valkey"))
    yield cluster
    cluster.stop()


@pytest.fixture
def sentinels() -> Iterator[SentinelSet]:
    """Start a master with a replica under three Sentinels, which a test may kill."""
    sentinels = SentinelSet(program("valkey"))
    yield sentinels
    sentinels.stop()
