"""Print a table of the outcomes of the drills at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from rlm_testkit.load import Row

LINE: Final = "{:<42} {:>8} {:>8} {:>6} {:>6} {:>8} {:>8}"

ROWS: Final = pytest.StashKey[list[Row]]()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[Row], None]:
    """Return a function that adds a row to the table."""
    return request.config.stash.setdefault(ROWS, []).append


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = terminalreporter.config.stash.get(ROWS, [])
    if not rows:
        return
    terminalreporter.section("drills")
    terminalreporter.write_line(LINE.format(*Row._fields))
    for *cells, away, normal in rows:
        terminalreporter.write_line(LINE.format(*cells, _seconds(away), _seconds(normal)))
