"""Run the Python blocks of README.md and docs/*.md as tests, and spread all tests over workers."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

try:
    from sybil import Sybil
    from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
    from sybil.sybil import SybilCollection
except ModuleNotFoundError:  # the benchmarks do not need it
    Sybil = None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one worker more than there are processors, because many tests wait for a server."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """Let `gc.collect`, which many tests call, leave out the ten thousand tests themselves."""
    gc.collect()
    gc.freeze()


class Servers:
    """The servers that the blocks of one document need.

    urls: environment variables that are set to their URLs, or to their ports.
    module: the name under which programs can import what the blocks define.
    in_folder: whether the blocks run in a folder of their own, where they may write files.
    """

    def __init__(self, *urls: str, module: str | None = None, in_folder: bool = False) -> None:
        self._urls = urls
        self._module = module
        self._in_folder = in_folder
        self._end = contextlib.ExitStack()

    def start(self, namespace: dict[str, Any]) -> None:
        """Start the servers; `server` and `wire` are for a document that causes an outage."""
        environment = self._end.enter_context(pytest.MonkeyPatch.context())
        root = logging.getLogger()  # a worker of Celery sets its level
        self._end.callback(root.setLevel, root.level)
        if self._in_folder:
            environment.chdir(self._end.enter_context(tempfile.TemporaryDirectory()))
        if not self._urls:
            return
        try:
            from rlm_testkit.proxy import Proxy
            from rlm_testkit.servers import Cluster, SentinelSet, Server, free_port, valkey

            program = valkey()
        except ModuleNotFoundError as error:
            self.stop(namespace)
            pytest.skip(f"no servers: {error}")
        if self._module is not None:
            module = ModuleType(self._module)
            module.__getattr__ = namespace.__getitem__  # type: ignore[method-assign]
            environment.setitem(sys.modules, self._module, module)
            namespace["__name__"] = self._module
        for url in self._urls:
            if url == "SENTINEL_URL":
                running = SentinelSet(program)
            elif url == "CLUSTER_URL":
                running = Cluster(program)
            elif url == "SMTP_PORT":
                from rlm_testkit.smtp_servers import Sink, SMTPServerThread

                smtp_server = self._end.enter_context(SMTPServerThread(Sink()))
                environment.setenv(url, str(smtp_server.port))
                continue
            elif url == "SUBMISSION_PORT":
                environment.setenv(url, str(free_port()))
                continue
            else:
                running = namespace["server"] = Server(program, "--appendonly", "yes")
                proxy = namespace["wire"] = Proxy(running.port)
                self._end.callback(proxy.close)
            self._end.callback(running.stop)
            environment.setenv(url, running.url)

    def stop(self, _: dict[str, Any]) -> None:
        """Stop the servers."""
        self._end.close()


class DjangoPage(Servers):
    """The page about Django: a server, a folder for its files, and settings for its blocks."""

    def start(self, namespace: dict[str, Any]) -> None:
        """Start the server, and let the blocks define the settings of a Django project."""
        pytest.importorskip("django", reason="no Django")
        super().start(namespace)
        namespace["BASE_DIR"] = Path(self._end.enter_context(tempfile.TemporaryDirectory()))
        from rlm_testkit.django_project import page

        self._end.callback(page.end)


SERVERS_BY_DOCUMENT = {
    "README.md": Servers(in_folder=True),
    "docs/adapters.md": Servers("SMTP_PORT", "SUBMISSION_PORT", in_folder=True),
    "docs/choose-limits.md": Servers(in_folder=True),
    "docs/cron.md": Servers("SMTP_PORT", in_folder=True),
    "docs/faq.md": Servers("SMTP_PORT", in_folder=True),
    "docs/index.md": Servers("SMTP_PORT", in_folder=True),
    "docs/migrate.md": Servers("SMTP_PORT", in_folder=True),
    "docs/resume.md": Servers("SMTP_PORT", in_folder=True),
    "docs/security.md": Servers(in_folder=True),
    "docs/celery.md": Servers("REDIS_URL", "SMTP_PORT", module="mailer"),
    "docs/django.md": DjangoPage("SMTP_PORT"),
    "docs/redis.md": Servers("REDIS_URL", "SENTINEL_URL", "CLUSTER_URL"),
    "docs/outages.md": Servers("REDIS_URL"),
    "docs/testing.md": Servers("REDIS_URL"),
    "docs/web-frameworks.md": Servers("SMTP_PORT"),
}

if Sybil is not None:
    parsers = [PythonCodeBlockParser(), SkipParser()]
    documents = Sybil(
        parsers, patterns=["README.md", "docs/*.md"], excludes=list(SERVERS_BY_DOCUMENT)
    )
    with_servers = [
        Sybil(parsers, pattern=document, setup=servers.start, teardown=servers.stop)
        for document, servers in SERVERS_BY_DOCUMENT.items()
    ]
    pytest_collect_file = SybilCollection([documents, *with_servers]).pytest()


SHARING = ("test_redis_cluster", "test_replay_report", "test_django_admin")
"""The files whose tests share something that takes long to make."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Let `pytest -n` run the tests of some files in one process.

    These are the blocks of a document, which build on each other, and tests of `SHARING`.
    Any other test runs in any process.
    """
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class FileScheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            is_together = path.endswith(".md") or any(name in path for name in SHARING)
            return path if is_together else nodeid

    return FileScheduling(config, log) if config.getoption("dist") == "load" else None
