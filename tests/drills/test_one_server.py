"""One server that is killed, forgets its scripts, loses answers, or stalls, during load."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from rlm_testkit.load import COLOURS, Asked, Load, Row, at_most, held, own_prefix
from rlm_testkit.proxy import Proxy
from rlm_testkit.servers import Server, wait_until

pytestmark = [pytest.mark.drill, pytest.mark.parametrize("colour", COLOURS)]

Report = Callable[[Row], None]
TIMES = 3
WORKERS = 4


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server.port, only=b"EVAL")
    yield proxy
    proxy.close()


def test_killed_and_started_again(own_server: Server, colour: str, report: Report) -> None:
    limit = 8000
    policy = at_most(limit)
    asked = Asked(colour, own_server.url, policy, prefix="mail:")
    away, normal = 0.0, 0.0
    with Load(asked) as load:
        for _ in range(TIMES):
            load.recover(0)
            own_server.kill()
            killed = time.monotonic()
            time.sleep(3)
            own_server.start()
            back = time.monotonic()
            away, normal = max(away, back - killed), max(normal, load.recover(back))
        tally = load.exhaust()
    kept = held(own_server.url, policy, "mail:")
    asked.close()
    report(Row.of(f"killed {TIMES} times, {colour}", tally, limit, away, normal))
    assert tally.admitted <= kept == limit
    assert normal < 2


def test_scripts_forgotten(server: Server, colour: str, report: Report) -> None:
    limit = 10_000
    asked = Asked(colour, server.url, at_most(limit), prefix=own_prefix())
    flushes = 0
    with Load(asked) as load, server.client() as client:
        while not load.tally.refused:
            client.script_flush()
            flushes += 1
    tally = load.tally
    asked.close()
    report(Row.of(f"{server.name}: SCRIPT FLUSH {flushes} times, {colour}", tally, limit))
    assert tally.admitted == limit
    assert tally.failed == 0


def test_answers_lost(server: Server, proxy: Proxy, colour: str, report: Report) -> None:
    limit, prefix = 20_000, own_prefix()
    policy = at_most(limit)
    asked = Asked(colour, proxy.url, policy, prefix=prefix)
    normal = 0.0
    # Tasks share a connection, so what one is cut off with may be the answers of all of them.
    on_one = 1 if colour == "blocking" else WORKERS
    with Load(asked, WORKERS) as load:
        for time_of_loss in range(1, 31):
            load.recover(0)
            proxy.lose_answers = 1
            wait_until(lambda: proxy.lost == time_of_loss)  # noqa: B023 - called at once
            normal = max(normal, load.recover(proxy.lost_at))
        tally = load.exhaust()
    kept = held(server.url, policy, prefix)
    asked.close()
    report(Row.of(f"{server.name}: 30 answers lost, {colour}", tally, limit, 0, normal))
    assert proxy.lost <= limit - tally.admitted <= proxy.lost * on_one
    assert kept == limit
    assert normal < 2


def test_stalled(server: Server, proxy: Proxy, colour: str, report: Report) -> None:
    limit, prefix = 8000, own_prefix()
    policy = at_most(limit)
    asked = Asked(colour, proxy.url, policy, prefix=prefix)
    away, normal = 0.0, 0.0
    with Load(asked) as load:
        for _ in range(TIMES):
            load.recover(0)
            proxy.stalled.set()
            since = time.monotonic()
            time.sleep(5)
            proxy.stalled.clear()
            back = time.monotonic()
            away, normal = max(away, back - since), max(normal, load.recover(back))
        tally = load.exhaust()
    kept = held(server.url, policy, prefix)
    asked.close()
    report(Row.of(f"{server.name}: stalled {TIMES} times, {colour}", tally, limit, away, normal))
    assert tally.admitted <= kept == limit
    assert normal < 2
