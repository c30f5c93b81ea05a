"""A single server that is killed, forgets its scripts, loses answers, or stalls, during load."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from rlm_testkit.faults import script_proxy
from rlm_testkit.load import AnyLimiter, Load, Row, one_limit_policy, used_on_server
from rlm_testkit.proxy import Proxy
from rlm_testkit.redis_backends import KINDS, unique_prefix
from rlm_testkit.servers import Server, wait_until

pytestmark = [pytest.mark.drill, pytest.mark.parametrize("kind", KINDS)]

Report = Callable[[Row], None]
TIMES = 3
WORKERS = 4


proxy = pytest.fixture(script_proxy)


def test_killed_and_started_again(own_server: Server, kind: str, report: Report) -> None:
    limit = 8000
    policy = one_limit_policy(limit)
    limiter = AnyLimiter(kind, own_server.url, policy, prefix="mail:")
    away, normal = 0.0, 0.0
    with Load(limiter) as load:
        for _ in range(TIMES):
            load.recover(0)
            own_server.kill()
            killed = time.monotonic()
            time.sleep(3)
            own_server.start()
            back = time.monotonic()
            away, normal = max(away, back - killed), max(normal, load.recover(back))
        tally = load.exhaust()
    used = used_on_server(own_server.url, policy, "mail:")
    limiter.close()
    report(Row.from_tally(f"killed {TIMES} times, {kind}", tally, limit, away, normal))
    assert tally.admitted <= used == limit
    assert normal < 2


def test_scripts_forgotten(server: Server, kind: str, report: Report) -> None:
    limit = 10_000
    limiter = AnyLimiter(kind, server.url, one_limit_policy(limit), prefix=unique_prefix())
    flushes = 0
    with Load(limiter) as load, server.client() as client:
        while not load.tally.refused:
            client.script_flush()
            flushes += 1
    tally = load.tally
    limiter.close()
    report(Row.from_tally(f"{server.name}: SCRIPT FLUSH {flushes} times, {kind}", tally, limit))
    assert tally.admitted == limit
    assert tally.failed == 0


def test_answers_lost(server: Server, proxy: Proxy, kind: str, report: Report) -> None:
    limit, prefix = 20_000, unique_prefix()
    policy = one_limit_policy(limit)
    limiter = AnyLimiter(kind, proxy.url, policy, prefix=prefix)
    normal = 0.0
    # Tasks share connections, so a cut connection may lose the answers of all of them.
    per_loss = 1 if kind == "sync" else WORKERS
    with Load(limiter, WORKERS) as load:
        for losses in range(1, 31):
            load.recover(0)
            proxy.lose_answers = 1
            wait_until(lambda: proxy.lost == losses)  # noqa: B023 - called at once
            normal = max(normal, load.recover(proxy.lost_at))
        tally = load.exhaust()
    used = used_on_server(server.url, policy, prefix)
    limiter.close()
    report(Row.from_tally(f"{server.name}: 30 answers lost, {kind}", tally, limit, 0, normal))
    assert proxy.lost <= limit - tally.admitted <= proxy.lost * per_loss
    assert used == limit
    assert normal < 2


def test_stalled(server: Server, proxy: Proxy, kind: str, report: Report) -> None:
    limit, prefix = 8000, unique_prefix()
    policy = one_limit_policy(limit)
    limiter = AnyLimiter(kind, proxy.url, policy, prefix=prefix)
    away, normal = 0.0, 0.0
    with Load(limiter) as load:
        for _ in range(TIMES):
            load.recover(0)
            proxy.stalled.set()
            since = time.monotonic()
            time.sleep(5)
            proxy.stalled.clear()
            back = time.monotonic()
            away, normal = max(away, back - since), max(normal, load.recover(back))
        tally = load.exhaust()
    used = used_on_server(server.url, policy, prefix)
    limiter.close()
    report(
        Row.from_tally(f"{server.name}: stalled {TIMES} times, {kind}", tally, limit, away, normal)
    )
    assert tally.admitted <= used == limit
    assert normal < 2
