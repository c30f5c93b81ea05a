"""Print a table of the outcomes of the drills at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from rlm_testkit.load import Row
from rlm_testkit.smtp_sink import ArrivalRow

LINE: Final = "{:<42} {:>8} {:>8} {:>6} {:>6} {:>8} {:>8}"

ROWS: Final = pytest.StashKey[list[Row]]()

ARRIVALS_LINE: Final = "{:<42} {:>8} {:>8} {:>6} {:>6} {:>8} {:>8} {:>8}"

ARRIVAL_ROWS: Final = pytest.StashKey[list[ArrivalRow]]()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[Row], None]:
    """Return a function that adds a row to the table."""
    return request.config.stash.setdefault(ROWS, []).append


@pytest.fixture
def report_arrivals(request: pytest.FixtureRequest) -> Callable[[ArrivalRow], None]:
    """Return a function that adds a row to the table of arrivals."""
    return request.config.stash.setdefault(ARRIVAL_ROWS, []).append


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    write_line = terminalreporter.write_line
    if rows := terminalreporter.config.stash.get(ROWS, []):
        terminalreporter.section("drills")
        write_line(LINE.format(*Row._fields))
        for *cells, away, normal in rows:
            write_line(LINE.format(*cells, _seconds(away), _seconds(normal)))
    if arrival_rows := terminalreporter.config.stash.get(ARRIVAL_ROWS, []):
        terminalreporter.section("arrivals at the provider")
        write_line(ARRIVALS_LINE.format(*ArrivalRow._fields))
        for *numbers, rate, limit, share in arrival_rows:
            write_line(
                ARRIVALS_LINE.format(*numbers, f"{rate:.1f}", f"{limit:.1f}", f"{share:.0%}")
            )
