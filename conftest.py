"""Every Python block of README.md and of docs/*.md is a test; each document starts afresh."""

from __future__ import annotations

from typing import Any

import pytest

try:
    from sybil import Sybil
    from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
except ModuleNotFoundError:  # benchmarks do without; asked for a document, pytest then complains
    pass
else:
    pytest_collect_file = Sybil(
        parsers=[PythonCodeBlockParser(), SkipParser()],
        patterns=["README.md", "docs/*.md"],
    ).pytest()


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
