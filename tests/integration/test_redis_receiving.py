"""Directory, receiving limits, partial answers and limits that only report, on real servers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

import pytest
import redis
from rlm_testkit.redis_backends import new_prefix
from rlm_testkit.servers import Server

from ratelimit_mail import (
    Action,
    AsyncLimiter,
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientRateLimit,
)
from ratelimit_mail.backends import AsyncRedisBackend, MemoryBackend, RedisBackend
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.limits import Limit
from ratelimit_mail.testing import ManualClock

ANN, SMITH, BOB, CY = "ann@uwo.ca", "a.smith@uwo.ca", "bob@uwo.ca", "cy@uwo.ca"
HELD, EVE, OUT = "held@uwo.ca", "eve@example.com", "out@example.org"

DIRECTORY = Directory.from_dict(
    {ANN: [SMITH]},
    lists=[MailingList(HELD, posting="moderated"), MailingList("free@uwo.ca", exempt=True)],
)
LIMITS: list[Limit] = [
    MessageRateLimit("4/day"),
    MessageRateLimit("2/hour", direction="inbound", denied="count"),
    MessageRateLimit("4/hour", direction="inbound", scope=("sender", "recipient"), share=0.33),
    RecipientRateLimit("3/hour", scope="recipient_domain", enforce=False),
    MessageRateLimit("1/hour", direction="inbound", enforce=False),
]


def policy_of(limits: list[Limit] = LIMITS, *, partial: bool = True) -> Policy:
    return Policy(
        name="test",
        limits=limits,
        internal_domains=["uwo.ca"],
        directory=DIRECTORY,
        partial=partial,
    )


def arriving(*recipients: str, sender: str = EVE, known_by: str | None = None) -> Envelope:
    return Envelope(sender, recipients, id=known_by, direction="inbound")


TRAFFIC = [
    arriving(ANN, SMITH, BOB),
    arriving(SMITH, HELD, OUT),
    Envelope(CY, [SMITH, BOB, OUT]),
    Envelope(CY, [OUT, ANN, "free@uwo.ca"]),
    arriving(BOB, ANN, CY, sender=OUT),
    Envelope(CY, ["free@uwo.ca"]),
    arriving(ANN, BOB, CY, sender="<>", known_by="queue-1"),
    arriving(ANN, BOB, CY, sender="<>", known_by="queue-1"),
    Envelope(SMITH, [OUT, EVE, BOB]),
    Envelope(ANN, [OUT], id="job-1"),
    Envelope(ANN, [OUT], id="job-1"),
]
SUBJECTS = [ANN, SMITH, BOB, CY]


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.fixture
async def awaited(server: Server) -> AsyncIterator[AsyncRedisBackend]:
    backend = AsyncRedisBackend.from_url(server.url, prefix=new_prefix(), clock=ManualClock())
    yield backend
    await backend.aclose()


def used(limiter: Limiter) -> list[int]:
    return [
        usage.used
        for subject in SUBJECTS
        for scope in ("sender", "recipient")
        for usage in limiter.usage(subject, scope=scope)
    ]


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize("as_batch", [True, False])
def test_redis_answers_as_memory_does(client: redis.Redis, partial: bool, as_batch: bool) -> None:
    clock = ManualClock()
    policy = policy_of(partial=partial)
    memory = Limiter(policy, MemoryBackend(clock))
    remote = Limiter(policy, RedisBackend(client, prefix=new_prefix(), clock=clock))
    for _ in range(3):
        expected, given = (
            limiter.try_acquire_many(TRAFFIC)
            if as_batch
            else [limiter.try_acquire(each) for each in TRAFFIC]
            for limiter in (memory, remote)
        )
        assert given == expected
        assert any(expected)
        assert used(remote) == used(memory)
        for limiter, decisions in ((memory, expected), (remote, given)):
            limiter.refund(next(filter(None, decisions)))
        assert used(remote) == used(memory)
        assert [remote.check(each) for each in TRAFFIC] == [memory.check(each) for each in TRAFFIC]
        clock.advance(1800)


async def test_an_awaited_redis_answers_as_memory_does(awaited: AsyncRedisBackend) -> None:
    memory = Limiter(policy_of(), MemoryBackend(ManualClock()))
    limiter = AsyncLimiter(policy_of(), awaited)
    given = [await limiter.try_acquire(each) for each in TRAFFIC]
    expected = [memory.try_acquire(each) for each in TRAFFIC]
    assert given == expected
    await limiter.refund(given[0])
    memory.refund(expected[0])
    for subject in SUBJECTS:
        asked = await limiter.usage(subject, scope="recipient")
        assert asked == memory.usage(subject, scope="recipient")
    await limiter.reset(SMITH, scope="recipient")
    assert (await limiter.usage(ANN, scope="recipient"))[0].used == 0
    assert (await limiter.check(arriving(ANN))).shadow


def answers(decision: Decision) -> list[Action]:
    assert decision.recipients is not None
    return [each.action for each in decision.recipients.values()]


def test_parts_are_refunded_once_each(client: redis.Redis) -> None:
    limits: list[Limit] = [MessageRateLimit("1/hour", direction="inbound")]
    limiter = Limiter(policy_of(limits), RedisBackend(client, prefix=new_prefix()))
    assert limiter.try_acquire(arriving(BOB))
    decision = limiter.try_acquire(arriving(ANN, BOB, CY))
    assert answers(decision) == [Action.ACCEPT, Action.DEFER, Action.ACCEPT]
    assert decision.recipients is not None
    limiter.refund(decision.recipients[ANN])
    assert answers(limiter.check(arriving(ANN, CY))) == [Action.ACCEPT, Action.DEFER]
    limiter.refund(decision)
    assert answers(limiter.check(arriving(ANN, BOB, CY))) == [
        Action.ACCEPT,
        Action.DEFER,
        Action.ACCEPT,
    ]
    with pytest.raises(ValueError, match="already"):
        limiter.refund(decision)


def test_a_count_of_a_limit_that_only_reports_may_be_another_programs(
    client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    prefix = new_prefix()
    limits: list[Limit] = [MessageRateLimit("9/day"), MessageRateLimit("1/day", enforce=False)]
    limiter = Limiter(policy_of(limits), RedisBackend(client, prefix=prefix))
    letter = Envelope(ANN, [OUT])
    assert limiter.try_acquire(letter).shadow
    reported = [key for key in client.scan_iter(f"{prefix}*") if b"shadow" in key]
    assert reported
    for key in reported:
        client.delete(key)
        client.sadd(key, "another program's")
    with caplog.at_level(logging.WARNING):
        decision = limiter.try_acquire(letter)
    assert decision
    assert decision.shadow is None
    assert "limits that only report" in caplog.text
    limiter.refund(decision)
    assert limiter.usage(ANN)[0].used == 1


def test_limits_that_only_report_are_booked_and_cancelled_too(client: redis.Redis) -> None:
    clock = ManualClock()
    limits: list[Limit] = [
        MessageRateLimit("1/minute"),
        MessageRateLimit("2/day", enforce=False),
    ]
    limiter = Limiter(
        policy_of(limits),
        RedisBackend(client, prefix=new_prefix(), clock=clock),
        sleep=clock.advance,
    )
    letter = Envelope(ANN, [OUT])
    first, second, third = (limiter.reserve(letter) for _ in range(3))
    assert [each.delay for each in (first, second, third)] == [0, 60, 120]
    reported = [each.decision.shadow for each in (first, second, third)]
    assert [bool(each) for each in reported] == [True, True, False]
    second.cancel()
    assert limiter.check(letter).shadow
    assert limiter.acquire(letter).shadow
    assert not limiter.acquire(letter).shadow
