"""The strategy `exact-window` of `limits`: what its other strategies do, and what they do not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import (
    RateLimitItem,
    RateLimitItemPerDay,
    RateLimitItemPerMinute,
    RateLimitItemPerSecond,
    parse,
)
from limits.errors import ConfigurationError, StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import STRATEGIES, FixedWindowRateLimiter, MovingWindowRateLimiter
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Server

from ratelimit_mail.adapters.limits import BackendStorage, ExactWindowRateLimiter
from ratelimit_mail.backends import MemoryBackend, RedisBackend, SQLiteBackend
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def limiter(clock: ManualClock) -> ExactWindowRateLimiter:
    return ExactWindowRateLimiter(BackendStorage(backend=MemoryBackend(clock)))


def resets_in(limiter: ExactWindowRateLimiter, item: RateLimitItem, *identifiers: str) -> float:
    return limiter.get_window_stats(item, *identifiers).reset_time - time.time()


def test_hits_fit_up_to_the_amount(limiter: ExactWindowRateLimiter) -> None:
    item = RateLimitItemPerMinute(10)
    assert all(limiter.hit(item, "ann") for _ in range(10))
    assert not limiter.hit(item, "ann")
    assert limiter.hit(item, "kim")


def test_a_hit_leaves_its_window_to_the_millisecond(
    limiter: ExactWindowRateLimiter, clock: ManualClock
) -> None:
    item = RateLimitItemPerSecond(2, 2)
    assert limiter.hit(item)
    clock.advance(1)
    assert limiter.hit(item)
    clock.advance(0.999)
    assert not limiter.hit(item)
    clock.advance(0.001)
    assert limiter.hit(item)
    assert not limiter.hit(item)


def test_a_hit_may_cost_more_than_one(limiter: ExactWindowRateLimiter) -> None:
    item = RateLimitItemPerMinute(10)
    assert limiter.hit(item, cost=7)
    assert not limiter.hit(item, cost=4)
    assert limiter.hit(item, cost=3)
    assert not limiter.hit(item)


def test_a_cost_above_the_amount_never_fits(limiter: ExactWindowRateLimiter) -> None:
    item = RateLimitItemPerMinute(10)
    assert not limiter.hit(item, cost=11)
    assert not limiter.test(item, cost=11)
    assert limiter.get_window_stats(item).remaining == 10


def test_a_cost_of_zero_fits_and_charges_nothing(limiter: ExactWindowRateLimiter) -> None:
    item = RateLimitItemPerMinute(1)
    assert limiter.hit(item, cost=0)
    assert limiter.hit(item)
    assert limiter.hit(item, cost=0)
    assert limiter.test(item, cost=0)
    for method in (limiter.hit, limiter.test):
        with pytest.raises(ValueError, match="cost: -1"):
            method(item, cost=-1)


def test_test_charges_nothing(limiter: ExactWindowRateLimiter) -> None:
    item = RateLimitItemPerMinute(2)
    assert all(limiter.test(item, cost=2) for _ in range(5))
    limiter.hit(item)
    assert limiter.test(item)
    assert not limiter.test(item, cost=2)
    limiter.hit(item)
    assert not limiter.test(item)


def test_the_statistics_say_what_fits_and_when_more_will(
    limiter: ExactWindowRateLimiter, clock: ManualClock
) -> None:
    item = RateLimitItemPerMinute(10)
    assert limiter.get_window_stats(item).remaining == 10
    assert resets_in(limiter, item) == pytest.approx(60, abs=30)
    limiter.hit(item, cost=3)
    clock.advance(20)
    limiter.hit(item, cost=3)
    assert limiter.get_window_stats(item).remaining == 4
    assert 39 < resets_in(limiter, item) <= 40
    clock.advance(40)
    assert limiter.get_window_stats(item).remaining == 7
    assert 19 < resets_in(limiter, item) <= 20
    limiter.hit(item, cost=7)
    assert limiter.get_window_stats(item).remaining == 0
    assert 19 < resets_in(limiter, item) <= 20
    clock.advance(60)
    assert limiter.get_window_stats(item).remaining == 10


def test_clear_forgets_one_key(limiter: ExactWindowRateLimiter) -> None:
    item = RateLimitItemPerDay(1)
    assert limiter.hit(item, "ann")
    assert limiter.hit(item, "kim")
    limiter.clear(item, "ann")
    assert limiter.hit(item, "ann")
    assert not limiter.hit(item, "kim")


def test_each_item_counts_by_itself(limiter: ExactWindowRateLimiter) -> None:
    items = [parse("1/minute"), parse("1/hour"), parse("2/minute")]
    items.append(RateLimitItemPerMinute(1, namespace="other"))
    assert all(limiter.hit(item, "ann") for item in items)
    assert [limiter.hit(item, "ann") for item in items] == [False, False, True, False]


def test_identifiers_never_collide(limiter: ExactWindowRateLimiter) -> None:
    item = RateLimitItemPerDay(1)
    lists: list[tuple[Any, ...]] = [
        ("a/b", "c"),
        ("a", "b/c"),
        ("a", "b", "c"),
        ("a%2Fb", "c"),
        ("a%2Fb/c",),
        (),
        ("",),
        (1, 2.5),
    ]
    assert all(limiter.hit(item, *identifiers) for identifiers in lists)
    assert not limiter.hit(item, "1", "2.5")
    assert not limiter.hit(item, b"a", "b", "c")  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4)), max_size=60))
def test_no_window_ever_holds_more_and_no_hit_is_refused_without_need(
    steps: list[tuple[int, int]],
) -> None:
    clock = ManualClock()
    limiter = ExactWindowRateLimiter(MemoryBackend(clock))
    item, hits = RateLimitItemPerSecond(5, 10), list[tuple[int, int]]()
    for seconds, cost in steps:
        clock.advance(seconds / 4)
        in_window = sum(each for moment, each in hits if moment > clock() - 10_000)
        assert limiter.get_window_stats(item).remaining == 5 - in_window
        fits = in_window + cost <= 5
        assert limiter.test(item, cost=cost) == fits
        assert limiter.hit(item, cost=cost) == fits
        if fits:
            hits.append((clock(), cost))


# How frameworks make it.


def test_a_framework_finds_the_strategy_and_the_storage_by_name() -> None:
    storage = storage_from_string("ratelimit-mail+memory:")
    limiter = STRATEGIES["exact-window"](storage)
    assert isinstance(limiter, ExactWindowRateLimiter)
    assert limiter.hit(RateLimitItemPerDay(1), "ann")
    assert not limiter.hit(RateLimitItemPerDay(1), "ann")
    assert storage.check()


def test_a_storage_in_redis_is_shared(server: Server) -> None:
    url = f"ratelimit-mail+{server.url}?prefix={unique_prefix()}"
    limiters: list[ExactWindowRateLimiter] = []
    for _ in range(2):
        storage = storage_from_string(url)
        assert isinstance(storage, BackendStorage)
        assert storage.check()
        limiters.append(ExactWindowRateLimiter(storage))
    item = RateLimitItemPerDay(4)
    assert [each.hit(item, "ann", cost=2) for each in limiters] == [True, True]
    assert [each.hit(item, "ann") for each in limiters] == [False, False]
    assert limiters[0].get_window_stats(item, "ann").remaining == 0
    assert 86_000 < resets_in(limiters[1], item, "ann") <= 86_400.1
    limiters[0].clear(item, "ann")
    assert limiters[1].hit(item, "ann", cost=4)
    for each in limiters:
        backend = each._storage.backend
        assert isinstance(backend, RedisBackend)
        backend.close()


def test_a_storage_in_a_file_lasts(tmp_path: Path) -> None:
    results = []
    for _ in range(2):
        storage = storage_from_string(f"ratelimit-mail+sqlite:///{tmp_path / 'counts.db'}")
        assert isinstance(storage, BackendStorage)
        limiter = ExactWindowRateLimiter(storage)
        results.append([limiter.hit(RateLimitItemPerDay(3), "ann", cost=2) for _ in range(2)])
        assert isinstance(storage.backend, SQLiteBackend)
        storage.backend.close()
    assert results == [[True, False], [False, False]]


@pytest.mark.parametrize("wrap_exceptions", [False, True])
def test_an_outage_is_what_the_framework_asked_for(wrap_exceptions: bool) -> None:
    storage = BackendStorage("ratelimit-mail+redis://127.0.0.1:1/0", wrap_exceptions)
    assert not storage.check()
    limiter = ExactWindowRateLimiter(storage)
    with pytest.raises(StorageError if wrap_exceptions else BackendUnavailable):
        limiter.hit(RateLimitItemPerDay(1))


def test_other_strategies_and_storages_are_refused() -> None:
    storage: Any = BackendStorage()
    with pytest.raises(NotImplementedError):
        MovingWindowRateLimiter(storage)
    fixed = FixedWindowRateLimiter(storage)
    item = RateLimitItemPerDay(1)
    for method in (fixed.hit, fixed.test, fixed.clear, fixed.get_window_stats):
        with pytest.raises(NotImplementedError, match="exact-window"):
            method(item)
    for ask in (storage.reset, lambda: storage.get_expiry("a")):
        with pytest.raises(NotImplementedError):
            ask()
    with pytest.raises(TypeError, match="ratelimit-mail"):
        ExactWindowRateLimiter(MemoryStorage())
    with pytest.raises(TypeError, match="neither a storage nor a backend"):
        ExactWindowRateLimiter(None)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        storage_from_string("ratelimit-mail+mongodb://x")
