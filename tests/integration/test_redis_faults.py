"""What callers meet while the server is away: lost answers, stalls, and the outage policies."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any, Protocol

import pytest
import redis
from redis.crc import key_slot
from rlm_testkit.load import COLOURS, LETTER, SENDER, Asked, Load, at_most, held, own_prefix
from rlm_testkit.proxy import Proxy
from rlm_testkit.servers import Cluster, SentinelSet, Server, wait_until

from ratelimit_mail import (
    Action,
    AsyncLimiter,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.backends import AsyncRedisBackend, MemoryBackend, RedisBackend
from ratelimit_mail.backends.redis.connections import MOST_CONNECTIONS
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.testing import ManualClock

HUNDRED = at_most(100)
TIMEOUT = 0.3


class Ask(Protocol):
    """Makes a limiter behind the proxy."""

    def __call__(self, policy: Policy = HUNDRED, **options: Any) -> Asked: ...


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def prefix() -> str:
    return own_prefix()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    # Only the answer to a script can be lost: a connection's greeting charges nobody.
    proxy = Proxy(server.port, only=b"EVAL")
    yield proxy
    proxy.close()


@pytest.fixture
def ask(colour: str, proxy: Proxy, prefix: str) -> Iterator[Ask]:
    made: list[Asked] = []

    def make(
        policy: Policy = HUNDRED, *, clock: ManualClock | None = None, **options: Any
    ) -> Asked:
        backend = {"timeout": TIMEOUT, "clock": clock}
        made.append(Asked(colour, proxy.url, policy, prefix=prefix, backend=backend, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def once_back(call: Callable[[], Any]) -> Any:
    """What `call` gives as soon as the backend is tried again, which is within two seconds."""
    end = time.monotonic() + 2
    while True:
        try:
            return call()
        except BackendUnavailable:
            assert time.monotonic() < end
            time.sleep(0.01)


def not_degraded(asked: Asked, envelope: Envelope) -> Any:
    """An answer of the server; BackendUnavailable where that was not tried yet."""
    decision = asked.try_acquire(envelope)
    if decision.degraded:
        raise BackendUnavailable("not tried yet")
    return decision


def letter(*recipients: str, job: str | None = None) -> Envelope:
    return Envelope(SENDER, recipients or ["bob@example.com"], id=job)


def to(size: int) -> Envelope:
    """A letter to so many."""
    return letter(*(f"reader{number}@example.com" for number in range(size)))


# Lost answers

CHARGING: dict[str, tuple[int, Callable[[Asked, Envelope], Any]]] = {
    "try_acquire": (1, lambda asked, letter: asked.try_acquire(letter)),
    "try_acquire_many": (3, lambda asked, letter: asked.try_acquire_many([letter] * 3)),
    "acquire": (1, lambda asked, letter: asked.acquire(letter)),
    "reserve": (1, lambda asked, letter: asked.reserve(letter)),
    "limited": (1, lambda asked, letter: asked.limited(lambda letter: None)(letter)),
}


@pytest.mark.parametrize("verb", CHARGING)
def test_a_charge_whose_answer_is_lost_is_made_once(
    ask: Ask, proxy: Proxy, server: Server, prefix: str, verb: str
) -> None:
    charged, call = CHARGING[verb]
    asked = ask()
    asked.try_acquire(LETTER)
    proxy.lose_answers = 1
    with pytest.raises(BackendUnavailable):
        call(asked, LETTER)
    assert proxy.lost == 1
    assert held(server.url, HUNDRED, prefix) == 1 + charged


@pytest.mark.parametrize("verb", ["try_acquire", "acquire", "reserve"])
def test_who_asks_again_with_the_same_id_gets_the_answer_that_was_lost(
    ask: Ask, proxy: Proxy, server: Server, prefix: str, verb: str
) -> None:
    asked = ask(at_most(2))
    asked.try_acquire(LETTER)
    _, call = CHARGING[verb]
    proxy.lose_answers = 1
    with pytest.raises(BackendUnavailable):
        call(asked, letter(job="job 1"))
    # The only place left is its own: a new answer would be a refusal.
    answer = once_back(lambda: call(asked, letter(job="job 1")))
    assert getattr(answer, "decision", answer)
    assert not getattr(answer, "decision", answer).degraded
    assert not asked.try_acquire(letter(job="job 2"))
    assert held(server.url, at_most(2), prefix) == 2


def test_a_batch_asked_again_with_its_ids_is_charged_once(
    ask: Ask, proxy: Proxy, server: Server, prefix: str
) -> None:
    batch = [letter(job=f"job {number}") for number in range(5)]
    asked = ask(at_most(3))
    asked.check(LETTER)
    proxy.lose_answers = 1
    with pytest.raises(BackendUnavailable):
        asked.try_acquire_many(batch)
    answers = once_back(lambda: asked.try_acquire_many(batch))
    assert [bool(decision) for decision in answers] == [True, True, True, False, False]
    assert held(server.url, at_most(3), prefix) == 3


def test_an_answer_that_was_lost_before_is_refunded_like_any_other(
    ask: Ask, proxy: Proxy, server: Server, prefix: str
) -> None:
    asked = ask()
    asked.check(LETTER)
    proxy.lose_answers = 1
    with pytest.raises(BackendUnavailable):
        asked.try_acquire(letter(job="job"))
    asked.refund(once_back(lambda: asked.try_acquire(letter(job="job"))))
    assert held(server.url, HUNDRED, prefix) == 0


def refund_twice_with_the_first_answer_lost(asked: Asked, proxy: Proxy, sent: Envelope) -> None:
    asked.refund(asked.try_acquire(LETTER))  # the server knows the script from here on
    assert asked.try_acquire(LETTER)
    decision = asked.try_acquire(sent)
    proxy.lose_answers = 1
    with pytest.raises(BackendUnavailable):
        asked.refund(decision)
    once_back(lambda: asked.refund(decision))


def test_a_refund_with_an_id_whose_answer_is_lost_can_be_asked_again(
    ask: Ask, proxy: Proxy
) -> None:
    asked = ask(clock=ManualClock())
    refund_twice_with_the_first_answer_lost(asked, proxy, letter(job="job"))
    assert asked.usage(SENDER)[0].used == 1


def test_a_refund_whose_answer_is_lost_takes_nobody_elses_charge_when_asked_again(
    ask: Ask, proxy: Proxy
) -> None:
    asked = ask(clock=ManualClock())
    decision, _ = (asked.try_acquire(LETTER) for _ in range(2))
    proxy.lose_answers = 1
    with pytest.raises(BackendUnavailable):
        asked.refund(decision)
    with pytest.raises(ValueError, match="refunded"):
        asked.refund(decision)
    once_back(lambda: asked.check(LETTER))
    assert asked.usage(SENDER)[0].used == 1


def test_a_client_bound_to_one_connection_charges_once_too(
    colour: str, proxy: Proxy, server: Server, prefix: str
) -> None:
    place: dict[str, Any] = {"port": proxy.port, "single_connection_client": True}

    async def awaited() -> None:
        client = redis.asyncio.Redis(**place)
        try:
            limiter = AsyncLimiter(HUNDRED, AsyncRedisBackend(client, prefix=prefix))
            await limiter.check(LETTER)
            proxy.lose_answers = 1
            await limiter.try_acquire(LETTER)
        finally:
            await client.aclose()

    def blocking() -> None:
        with redis.Redis(**place) as client:
            limiter = Limiter(HUNDRED, RedisBackend(client, prefix=prefix))
            limiter.check(LETTER)
            proxy.lose_answers = 1
            limiter.try_acquire(LETTER)

    with pytest.raises(BackendUnavailable):
        blocking() if colour == "blocking" else asyncio.run(awaited())
    assert held(server.url, HUNDRED, prefix) == 1


def test_a_client_of_ones_own_with_a_pool_charges_once_too(
    proxy: Proxy, server: Server, prefix: str
) -> None:
    with redis.Redis(port=proxy.port) as client:
        limiter = Limiter(HUNDRED, RedisBackend(client, prefix=prefix))
        limiter.check(LETTER)
        proxy.lose_answers = 1
        with pytest.raises(BackendUnavailable):
            limiter.try_acquire(LETTER)
    assert held(server.url, HUNDRED, prefix) == 1


@pytest.fixture
def proxies(cluster: Cluster) -> Iterator[dict[int, Proxy]]:
    """A proxy before each node of the cluster."""
    proxies = {node.port: Proxy(node.port, only=b"EVAL") for node in cluster.nodes}
    yield proxies
    for proxy in proxies.values():
        proxy.close()


def by_way_of(proxies: dict[int, Proxy]) -> Callable[[tuple[str, int]], tuple[str, int]]:
    """What sends a client of the cluster to the proxy of each node."""
    return lambda place: (place[0], proxies[int(place[1])].port)


def lose_one_answer_each(proxies: dict[int, Proxy]) -> None:
    for proxy in proxies.values():
        proxy.lose_answers = 1


def test_a_charge_in_a_cluster_whose_answer_is_lost_is_made_once(
    colour: str, cluster: Cluster, proxies: dict[int, Proxy], prefix: str
) -> None:
    options = {"address_remap": by_way_of(proxies)}
    asked = Asked(colour, cluster.url, HUNDRED, prefix=prefix, backend=options)
    asked.check(LETTER)
    lose_one_answer_each(proxies)
    with pytest.raises(BackendUnavailable):
        asked.try_acquire(LETTER)
    once_back(lambda: asked.check(LETTER))
    asked.close()
    assert sum(proxy.lost for proxy in proxies.values()) == 1
    assert held(cluster.url, HUNDRED, prefix) == 1


SPREAD = Policy(
    name="test",
    limits=[MessageRateLimit("100/day"), MessageRateLimit("100/day", scope="recipient_domain")],
)


def apart(cluster: Cluster) -> tuple[str, str]:
    """A sender and a domain whose counts stand on the first two masters."""
    first, second, end = cluster.BOUNDS[:3]
    senders = (f"user{number}@uwo.ca" for number in count())
    domains = (f"list{number}.example.com" for number in count())
    return (
        next(each for each in senders if first <= key_slot(each.encode()) < second),
        next(each for each in domains if second <= key_slot(each.encode()) < end),
    )


def test_a_cluster_client_of_ones_own_charges_once_too(
    colour: str, cluster: Cluster, proxies: dict[int, Proxy], prefix: str
) -> None:
    place: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": cluster.masters[0].port,
        "address_remap": by_way_of(proxies),
    }

    async def awaited() -> None:
        client = redis.asyncio.RedisCluster(**place)
        try:
            limiter = AsyncLimiter(HUNDRED, AsyncRedisBackend(client, prefix=prefix))
            await limiter.check(LETTER)
            lose_one_answer_each(proxies)
            await limiter.try_acquire(LETTER)
        finally:
            await client.aclose()

    def blocking() -> None:
        client = redis.RedisCluster(**place)
        try:
            limiter = Limiter(HUNDRED, RedisBackend(client, prefix=prefix))
            limiter.check(LETTER)
            lose_one_answer_each(proxies)
            limiter.try_acquire(LETTER)
        finally:
            client.close()

    with pytest.raises(BackendUnavailable):
        blocking() if colour == "blocking" else asyncio.run(awaited())
    assert held(cluster.url, HUNDRED, prefix) == 1


async def test_a_task_that_is_cancelled_while_the_answer_is_on_its_way_gives_its_place_back(
    proxy: Proxy, server: Server, prefix: str
) -> None:
    backend = AsyncRedisBackend.from_url(proxy.url, prefix=prefix)
    limiter = AsyncLimiter(HUNDRED, backend)
    await limiter.acquire(LETTER)
    proxy.held.set()
    task = asyncio.create_task(limiter.acquire(LETTER))
    charged = partial(held, server.url, HUNDRED, prefix)
    while await asyncio.to_thread(charged) < 2:
        await asyncio.sleep(0.01)
    task.cancel()
    proxy.held.clear()
    with pytest.raises(asyncio.CancelledError):
        await task
    kept = await asyncio.to_thread(charged)
    await backend.aclose()
    assert kept == 1


# A server that says nothing


def test_a_call_takes_no_longer_than_the_timeout(ask: Ask, proxy: Proxy) -> None:
    asked = ask()
    asked.try_acquire(LETTER)
    proxy.stalled.set()
    start = time.monotonic()
    with pytest.raises(BackendUnavailable, match=r"(?i)time"):
        asked.try_acquire(LETTER)
    # The proxy would stall for ever; a second is what a busy machine is granted.
    assert time.monotonic() - start < TIMEOUT + 1


def test_a_new_connection_takes_no_longer_than_the_timeout(ask: Ask, proxy: Proxy) -> None:
    proxy.stalled.set()
    start = time.monotonic()
    with pytest.raises(BackendUnavailable):
        ask().try_acquire(LETTER)
    assert time.monotonic() - start < TIMEOUT + 1


def test_while_the_server_stalls_one_call_at_a_time_tries_it_and_nobody_else_waits(
    ask: Ask, proxy: Proxy, server: Server, prefix: str
) -> None:
    policy = at_most(2000)
    asked = ask(policy)
    with Load(asked, workers=8) as load:
        load.wait_for(lambda tally: tally.admitted > 50)
        proxy.stalled.set()
        load.wait_for(lambda tally: tally.failed >= 8)
        wait_until(lambda: asked.watch.inside <= 1)
        asked.watch.forget()
        before, since = load.tally, time.monotonic()
        load.wait_for(lambda _: asked.watch.tries >= 4)
        tries, elapsed = asked.watch.tries, time.monotonic() - since
        answered = load.tally.failed - before.failed
        assert asked.watch.most == 1
        assert tries <= 1 + elapsed / TIMEOUT
        assert answered > 10 * tries  # a call that tries takes as long as hundreds that do not

        proxy.stalled.clear()
        back, admitted = time.monotonic(), load.tally.admitted
        load.wait_for(lambda tally: tally.admitted > admitted + 50)
    tally = load.tally
    assert tally.last_failure - back < 2
    assert tally.admitted <= held(server.url, policy, prefix) <= 2000


async def test_a_crowd_that_meets_a_stalled_server_waits_together_not_one_after_another(
    proxy: Proxy, prefix: str
) -> None:
    backend = AsyncRedisBackend.from_url(proxy.url, prefix=prefix, timeout=TIMEOUT)
    limiter = AsyncLimiter(HUNDRED, backend)
    await limiter.try_acquire(LETTER)
    proxy.stalled.set()
    before = proxy.connections
    answers = await asyncio.gather(
        *(limiter.try_acquire(LETTER) for _ in range(500)), return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {BackendUnavailable}
    assert proxy.connections - before <= MOST_CONNECTIONS
    await backend.aclose()


def test_an_outage_is_logged_when_it_begins_and_when_it_ends(
    ask: Ask, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ratelimit_mail")
    asked = ask()
    asked.try_acquire(LETTER)
    with proxy.away():
        for _ in range(50):
            with pytest.raises(BackendUnavailable):
                asked.try_acquire(LETTER)
    once_back(lambda: asked.try_acquire(LETTER))
    levels = [record.levelname for record in caplog.records if record.name == "ratelimit_mail"]
    assert levels == ["WARNING", "INFO"]


# What is answered meanwhile

POLICIES = ("raise", "allow", "deny", "fallback")

VERBS: dict[str, Callable[[Asked], Any]] = {
    **{
        name: partial(lambda call, asked: call(asked, LETTER), CHARGING[name][1])
        for name in CHARGING
    },
    "check": lambda asked: asked.check(LETTER),
    "usage": lambda asked: asked.usage(SENDER),
    "reset": lambda asked: asked.reset(SENDER),
}


def instead(name: str) -> Any:
    """What to hand in as on_backend_error."""
    return MemoryBackend() if name == "fallback" else name


@pytest.mark.parametrize("verb", VERBS)
def test_by_default_every_verb_raises(ask: Ask, proxy: Proxy, verb: str) -> None:
    asked = ask()
    with proxy.away():
        for _ in range(3):  # the first is tried, the others are not
            with pytest.raises(BackendUnavailable):
                VERBS[verb](asked)
    once_back(lambda: VERBS[verb](asked))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("verb", ["usage", "reset"])
def test_administrators_are_told_that_the_server_is_away(
    ask: Ask, proxy: Proxy, policy: str, verb: str
) -> None:
    asked = ask(on_backend_error=instead(policy))
    with proxy.away():
        for _ in range(3):
            with pytest.raises(BackendUnavailable):
                VERBS[verb](asked)
    once_back(lambda: VERBS[verb](asked))


@pytest.mark.parametrize("verb", ["try_acquire", "acquire", "check"])
def test_allow_lets_everything_through_and_says_so(
    ask: Ask, proxy: Proxy, server: Server, prefix: str, verb: str
) -> None:
    asked = ask(at_most(1), on_backend_error="allow")
    with proxy.away():
        for _ in range(5):
            decision = VERBS[verb](asked)
            assert decision
            assert decision.degraded
            assert str(decision.reply) == "250 2.0.0 OK"
        if verb != "check":
            asked.refund(decision)  # nothing was counted
            with pytest.raises(ValueError, match="refunded"):
                asked.refund(decision)
    assert held(server.url, at_most(1), prefix) == 0


def test_allow_books_a_place_now_and_sends_what_is_decorated(ask: Ask, proxy: Proxy) -> None:
    asked = ask(at_most(1), on_backend_error="allow")
    sent: list[Envelope] = []
    with proxy.away():
        reservation = asked.reserve(LETTER, max_delay=0)
        assert reservation.delay == 0.0
        assert reservation.decision.degraded
        asked.wait(reservation.cancel())
        for on_denied in ("wait", "raise", "skip"):
            asked.limited(sent.append, on_denied=on_denied)(LETTER)
        assert all(decision.degraded for decision in asked.try_acquire_many([LETTER] * 3))
    assert sent == [LETTER] * 3


@pytest.mark.parametrize("verb", ["try_acquire", "check"])
def test_deny_defers_everything_and_says_so(
    ask: Ask, proxy: Proxy, server: Server, prefix: str, verb: str
) -> None:
    asked = ask(on_backend_error="deny")
    with proxy.away():
        for _ in range(5):
            decision = VERBS[verb](asked)
            assert decision.action is Action.DEFER
            assert decision.degraded
            assert decision.limit is None
            assert 0 < decision.retry_after < 1
            assert str(decision.reply).startswith("451 4.3.0 ")
            with pytest.raises(ValueError, match="refund"):
                asked.refund(decision)
        many = asked.try_acquire_many([LETTER] * 3)
    assert [(bool(decision), decision.degraded) for decision in many] == [(False, True)] * 3
    assert held(server.url, HUNDRED, prefix) == 0


def test_deny_makes_nobody_wait_for_the_server(ask: Ask, proxy: Proxy) -> None:
    asked = ask(on_backend_error="deny")
    sent: list[Envelope] = []
    with proxy.away():
        for call in (
            asked.acquire,
            asked.reserve,
            asked.limited(sent.append),
            asked.limited(sent.append, on_denied="raise"),
        ):
            with pytest.raises(
                RateLimitExceeded, match=r"451 4\.3\.0 .*the backend is away"
            ) as met:
                call(LETTER)
            assert met.value.decision.degraded
        skipped = asked.limited(sent.append, on_denied="skip")(LETTER)
        assert skipped.reply.code == 451
    assert not sent


def test_a_fallback_counts_meanwhile(ask: Ask, proxy: Proxy, server: Server, prefix: str) -> None:
    asked = ask(at_most(3), on_backend_error=MemoryBackend())
    assert not asked.try_acquire(LETTER).degraded
    sent: list[Envelope] = []
    with proxy.away():
        asked.limited(sent.append)(LETTER)
        decision = asked.acquire(LETTER)
        assert decision.degraded
        assert asked.check(LETTER).degraded
        last = asked.try_acquire(LETTER)
        assert last
        refused = asked.try_acquire(LETTER)
        assert refused.degraded
        assert str(refused.reply).startswith("450 4.7.1 ")
        assert str(refused.limit) == str(at_most(3).limits[0])
        with pytest.raises(RateLimitExceeded):
            asked.acquire(LETTER, timeout=60)
        ahead = asked.reserve(LETTER)
        assert ahead.delay > 3600
        assert ahead.decision.degraded
        asked.refund(last)
        assert [bool(each) for each in asked.try_acquire_many([LETTER] * 2)] == [True, False]
    assert sent == [LETTER]
    assert held(server.url, at_most(3), prefix) == 1
    assert not once_back(lambda: not_degraded(asked, LETTER)).degraded
    assert held(server.url, at_most(3), prefix) == 2
    asked.refund(decision)  # still where it was counted
    assert held(server.url, at_most(3), prefix) == 2


def test_a_fallback_remembers_ids_too(ask: Ask, proxy: Proxy) -> None:
    asked = ask(at_most(2), on_backend_error=MemoryBackend())
    with proxy.away():
        answers = [asked.try_acquire(letter(job="job")) for _ in range(5)]
        assert all(answers)
        assert asked.try_acquire(LETTER)
        assert not asked.try_acquire(LETTER)


def test_the_fallback_can_be_another_server(
    ask: Ask, colour: str, proxy: Proxy, server: Server
) -> None:
    elsewhere = own_prefix()
    other = Asked(colour, server.url, HUNDRED, prefix=elsewhere)
    asked = ask(on_backend_error=other.backend)
    with proxy.away():
        assert asked.try_acquire(LETTER).degraded
        assert held(server.url, HUNDRED, elsewhere) == 1
    asked.wait(other.backend.aclose() if asked.is_async else None)  # in its event loop, too
    other.close()


def test_a_fallback_that_is_away_too_raises(ask: Ask, proxy: Proxy) -> None:
    asked = ask(on_backend_error=ask().backend)
    with proxy.away(), pytest.raises(BackendUnavailable):
        asked.try_acquire(LETTER)


# Shares of the limits


@pytest.mark.parametrize(("limit", "together"), [(80, 80), (30, 24), (8, 8), (7, 0)])
def test_eight_nodes_with_an_eighth_each_stay_within_the_limit_together(
    ask: Ask, proxy: Proxy, limit: int, together: int
) -> None:
    nodes = [
        ask(at_most(limit), on_backend_error=MemoryBackend(), fallback_share=1 / 8)
        for _ in range(8)
    ]
    with proxy.away():
        answers = [node.try_acquire(LETTER) for _ in range(12) for node in nodes]
    assert all(decision.degraded for decision in answers)
    assert sum(decision.allowed for decision in answers) == together <= limit


@pytest.mark.parametrize("on_excess", ["defer", "reject"])
def test_a_message_larger_than_the_share_is_deferred_not_rejected_for_ever(
    ask: Ask, proxy: Proxy, on_excess: Any
) -> None:
    policy = Policy(name="test", limits=[RecipientRateLimit("80/hour", on_excess=on_excess)])
    asked = ask(policy, on_backend_error=MemoryBackend(), fallback_share=1 / 8)
    with proxy.away():
        assert asked.try_acquire(to(10))
        assert asked.try_acquire(to(1)).limit == policy.limits[0]
        decision = asked.try_acquire(to(11))
        assert decision.action is Action.DEFER
        assert decision.retry_after is not None
        assert decision.degraded
        assert decision.reply.code == 451
        with pytest.raises(RateLimitExceeded, match=r"451 4\.3\.0"):
            asked.acquire(to(11))
        never = asked.try_acquire(to(81))
        assert never.action is Action.REJECT
        assert never.retry_after is None
    assert once_back(lambda: not_degraded(asked, to(11)))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_recipient_limit_needs_no_server_and_is_not_shared(
    ask: Ask, proxy: Proxy, policy: str
) -> None:
    limits = [RecipientLimit(20), MessageRateLimit("80/hour")]
    asked = ask(
        Policy(name="test", limits=limits), on_backend_error=instead(policy), fallback_share=1 / 8
    )
    with proxy.away():
        rejected = asked.try_acquire(to(21))
        assert rejected.action is Action.REJECT
        assert rejected.limit == limits[0]
        assert rejected.reply.code == 550
        assert not rejected.degraded
        if policy == "fallback":
            assert asked.try_acquire(to(20))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_message_with_nothing_to_count_needs_no_server(
    ask: Ask, proxy: Proxy, policy: str
) -> None:
    limits = [RecipientRateLimit("80/hour", count="external")]
    campus = Policy(name="test", internal_domains=["uwo.ca"], limits=limits)
    asked = ask(campus, on_backend_error=instead(policy))
    with proxy.away():
        for call in (asked.try_acquire, asked.acquire, asked.check):
            decision = call(letter("eve@uwo.ca"))
            assert decision
            assert not decision.degraded
    assert asked.watch.tries == 0


# What was charged before


def test_a_refund_while_the_server_is_away_can_be_asked_again_where_errors_are_raised(
    ask: Ask, proxy: Proxy, server: Server, prefix: str
) -> None:
    asked = ask()
    decision = asked.try_acquire(LETTER)
    with proxy.away():
        with pytest.raises(BackendUnavailable):
            asked.check(LETTER)
        for _ in range(3):
            with pytest.raises(BackendUnavailable):
                asked.refund(decision)
    assert held(server.url, HUNDRED, prefix) == 1
    once_back(lambda: asked.refund(decision))
    assert held(server.url, HUNDRED, prefix) == 0
    with pytest.raises(ValueError, match="refunded"):
        asked.refund(decision)


@pytest.mark.parametrize("policy", ["allow", "deny", "fallback"])
def test_a_refund_while_the_server_is_away_is_lost_with_a_warning_where_none_are_raised(
    ask: Ask,
    proxy: Proxy,
    server: Server,
    prefix: str,
    policy: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = ask(on_backend_error=instead(policy))
    decision = asked.try_acquire(LETTER)
    with proxy.away():
        asked.refund(decision)
    assert "a refund is lost" in caplog.text
    assert held(server.url, HUNDRED, prefix) == 1
    with pytest.raises(ValueError, match="refunded"):
        asked.refund(decision)


def sleeper(colour: str, meanwhile: Callable[[float], object]) -> Any:
    """What to hand in as `sleep`, where `meanwhile` is what happens in that time."""

    async def awaited(seconds: float) -> None:
        meanwhile(seconds)

    return awaited if colour == "awaited" else meanwhile


@pytest.mark.parametrize("policy", POLICIES)
def test_who_waits_already_is_not_held_up_when_the_server_goes_away(
    ask: Ask, colour: str, proxy: Proxy, policy: str
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        proxy.leave()

    asked = ask(at_most(1), on_backend_error=instead(policy), sleep=sleeper(colour, sleep))
    assert asked.acquire(LETTER)
    decision = asked.acquire(LETTER)
    assert decision
    assert not decision.degraded
    assert len(slept) == 1


class Interrupted(Exception):
    """What breaks off a wait."""


@pytest.mark.parametrize("policy", POLICIES)
def test_why_a_wait_was_broken_off_is_not_hidden_by_the_outage(
    ask: Ask, colour: str, proxy: Proxy, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    def sleep(_: float) -> None:
        proxy.leave()
        raise Interrupted

    asked = ask(at_most(1), on_backend_error=instead(policy), sleep=sleeper(colour, sleep))
    assert asked.acquire(LETTER)
    with pytest.raises(Interrupted):
        asked.acquire(LETTER)
    assert "stays counted" in caplog.text
    proxy.come_back()
    once_back(lambda: asked.usage(SENDER))
    assert asked.reserve(LETTER).delay > 24 * 3600, "the place behind it is the next"


# Afterwards


def nobody_is_connected(*proxies: Proxy) -> bool:
    return not any(proxy.open for proxy in proxies)


async def test_a_backend_on_a_cluster_that_is_closed_in_an_outage_leaves_no_connection_open(
    cluster: Cluster, proxies: dict[int, Proxy], prefix: str
) -> None:
    backend = AsyncRedisBackend.from_url(
        cluster.url, prefix=prefix, address_remap=by_way_of(proxies)
    )
    limiter = AsyncLimiter(HUNDRED, backend)
    await limiter.check(LETTER)
    lose_one_answer_each(proxies)
    with pytest.raises(BackendUnavailable):
        await limiter.try_acquire(LETTER)
    await backend.aclose()
    await asyncio.to_thread(wait_until, lambda: nobody_is_connected(*proxies.values()), 5)


async def test_a_backend_under_sentinel_that_is_closed_leaves_no_connection_open(
    sentinels: SentinelSet, prefix: str
) -> None:
    proxy = Proxy(sentinels.sentinels[0].port)
    backend = AsyncRedisBackend.from_url(
        f"redis+sentinel://127.0.0.1:{proxy.port}/{sentinels.SERVICE}", prefix=prefix
    )
    manager = backend._link.client.connection_pool.sentinel_manager
    assert await AsyncLimiter(HUNDRED, backend).try_acquire(LETTER)
    await backend.aclose()
    try:
        await asyncio.to_thread(wait_until, lambda: nobody_is_connected(proxy), 1)
    finally:
        for client in manager.sentinels:
            await client.aclose()
        proxy.close()
