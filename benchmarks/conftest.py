"""A run of all benchmarks: `--quick` for trying out; the figures are kept for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import surroundings
from contenders import OURS
from figures import Figures
from rlm_testkit.servers import Server, redis_server, valkey
from side_by_side import InTurn, side_by_side


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="few turns: figures of little worth")


@pytest.fixture(scope="session")
def quick(request: pytest.FixtureRequest) -> bool:
    """Whether it is only tried out."""
    return bool(request.config.getoption("--quick"))


@pytest.fixture(scope="session")
def turns(quick: bool) -> int:
    """How many turns everybody gets."""
    return 4 if quick else 30


@pytest.fixture(scope="session")
def figures() -> Iterator[Figures]:
    """What is measured, kept at the end of the run."""
    figures = Figures(surroundings.describe())
    yield figures
    figures.save()


@pytest.fixture
def in_turn(figures: Figures, turns: int) -> InTurn:
    """Lets contenders work in turn and keeps their figures under a name."""

    def measure(
        group: str,
        taking_part: Sequence[tuple[str, str]],
        port: int | None = None,
        turns: int = turns,
    ) -> None:
        taken, troubles = side_by_side(taking_part, turns, port)
        figures.groups[group] = taken
        if troubles:
            figures.troubles[group] = troubles
        assert OURS not in troubles, troubles[OURS]

    return measure


def _told(server: Server) -> str:
    with server.client() as client:
        told = client.info("server")
    name = told.get("server_name", "redis")
    return str(told[f"{name}_version"])


@pytest.fixture(scope="session")
def on_valkey(figures: Figures) -> Iterator[int]:
    """The port of a Valkey."""
    server = Server(valkey())
    figures.machine["Valkey"] = _told(server)
    yield server.port
    server.stop()


@pytest.fixture(scope="session")
def on_redis(figures: Figures) -> Iterator[int]:
    """The port of a Redis."""
    try:
        server = Server(redis_server())
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    figures.machine["Redis"] = _told(server)
    yield server.port
    server.stop()
