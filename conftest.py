"""Every Python block of README.md and of docs/*.md is a test; each document starts afresh."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

try:
    from sybil import Sybil
    from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
    from sybil.sybil import SybilCollection
except ModuleNotFoundError:  # benchmarks do without; asked for a document, pytest then complains
    Sybil = None


class Servers:
    """Servers that run while the blocks of one document do.

    urls: variables of the environment, in which the document finds where they are.
    """

    def __init__(self, *urls: str) -> None:
        self._urls = urls
        self._end = contextlib.ExitStack()

    def start(self, namespace: dict[str, Any]) -> None:
        """Start them; `server` and `wire` are for a document that shows what an outage does."""
        try:
            from rlm_testkit.proxy import Proxy
            from rlm_testkit.servers import Cluster, SentinelSet, Server, valkey

            program = valkey()
        except ModuleNotFoundError as error:
            pytest.skip(f"no servers: {error}")
        environment = self._end.enter_context(pytest.MonkeyPatch.context())
        for url in self._urls:
            if url == "SENTINEL_URL":
                running = SentinelSet(program)
            elif url == "CLUSTER_URL":
                running = Cluster(program)
            else:
                running = namespace["server"] = Server(program, "--appendonly", "yes")
                wire = namespace["wire"] = Proxy(running.port)
                self._end.callback(wire.close)
            self._end.callback(running.stop)
            environment.setenv(url, running.url)

    def stop(self, _: dict[str, Any]) -> None:
        """Stop them."""
        self._end.close()


NEEDED = {
    "docs/redis.md": Servers("REDIS_URL", "SENTINEL_URL", "CLUSTER_URL"),
    "docs/outages.md": Servers("REDIS_URL"),
    "docs/testing.md": Servers("REDIS_URL"),
}

if Sybil is not None:
    parsers = [PythonCodeBlockParser(), SkipParser()]
    documents = Sybil(parsers, patterns=["README.md", "docs/*.md"], excludes=list(NEEDED))
    with_servers = [
        Sybil(parsers, pattern=document, setup=servers.start, teardown=servers.stop)
        for document, servers in NEEDED.items()
    ]
    pytest_collect_file = SybilCollection([documents, *with_servers]).pytest()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Let `pytest -n` send what belongs together to one process.

    That is the blocks of one document, which build on each other, and the tests that share a
    cluster. Any other test goes wherever there is room.
    """
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class Together(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            together = path.endswith(".md") or "test_redis_cluster" in path
            return path if together else nodeid

    return Together(config, log) if config.getoption("dist") == "load" else None
