"""Directory, receiving limits, partial answers and limits that only report, on real servers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

import pytest
import redis
from rlm_testkit.builders import inbound_envelope
from rlm_testkit.redis_backends import unique_prefix
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


def campus_policy(limits: list[Limit] = LIMITS, *, partial: bool = True) -> Policy:
    return Policy(
        name="test",
        limits=limits,
        internal_domains=["uwo.ca"],
        directory=DIRECTORY,
        partial=partial,
    )


TRAFFIC = [
    inbound_envelope(ANN, SMITH, BOB),
    inbound_envelope(SMITH, HELD, OUT),
    Envelope(CY, [SMITH, BOB, OUT]),
    Envelope(CY, [OUT, ANN, "free@uwo.ca"]),
    inbound_envelope(BOB, ANN, CY, sender=OUT),
    Envelope(CY, ["free@uwo.ca"]),
    inbound_envelope(ANN, BOB, CY, sender="<>", id="queue-1"),
    inbound_envelope(ANN, BOB, CY, sender="<>", id="queue-1"),
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
async def async_backend(server: Server) -> AsyncIterator[AsyncRedisBackend]:
    backend = AsyncRedisBackend.from_url(
        server.url, prefix=unique_prefix(), timeout=30, clock=ManualClock()
    )
    yield backend
    await backend.aclose()


def used(limiter: Limiter) -> list[int]:
    """Return how much of each limit is used for each subject."""
    return [
        usage.used
        for subject in SUBJECTS
        for scope in ("sender", "recipient")
        for usage in limiter.usage(subject, scope=scope)
    ]


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize("as_batch", [True, False])
def test_a_redis_backend_gives_the_answers_of_a_memory_backend(
    client: redis.Redis, partial: bool, as_batch: bool
) -> None:
    clock = ManualClock()
    policy = campus_policy(partial=partial)
    memory = Limiter(policy, MemoryBackend(clock))
    remote = Limiter(policy, RedisBackend(client, prefix=unique_prefix(), clock=clock))
    for _ in range(3):
        expected, decisions = (
            limiter.try_acquire_many(TRAFFIC)
            if as_batch
            else [limiter.try_acquire(each) for each in TRAFFIC]
            for limiter in (memory, remote)
        )
        assert decisions == expected
        assert any(expected)
        assert used(remote) == used(memory)
        for limiter, answers in ((memory, expected), (remote, decisions)):
            limiter.refund(next(filter(None, answers)))
        assert used(remote) == used(memory)
        assert [remote.check(each) for each in TRAFFIC] == [memory.check(each) for each in TRAFFIC]
        clock.advance(1800)


async def test_an_async_redis_backend_gives_the_answers_of_a_memory_backend(
    async_backend: AsyncRedisBackend,
) -> None:
    memory = Limiter(campus_policy(), MemoryBackend(ManualClock()))
    limiter = AsyncLimiter(campus_policy(), async_backend)
    decisions = [await limiter.try_acquire(each) for each in TRAFFIC]
    expected = [memory.try_acquire(each) for each in TRAFFIC]
    assert decisions == expected
    await limiter.refund(decisions[0])
    memory.refund(expected[0])
    for subject in SUBJECTS:
        usage = await limiter.usage(subject, scope="recipient")
        assert usage == memory.usage(subject, scope="recipient")
    await limiter.reset(SMITH, scope="recipient")
    assert (await limiter.usage(ANN, scope="recipient"))[0].used == 0
    assert (await limiter.check(inbound_envelope(ANN))).shadow


def actions(decision: Decision) -> list[Action]:
    assert decision.recipients is not None
    return [each.action for each in decision.recipients.values()]


def test_each_recipient_of_a_partial_answer_is_refunded_once(client: redis.Redis) -> None:
    limits: list[Limit] = [MessageRateLimit("1/hour", direction="inbound")]
    limiter = Limiter(campus_policy(limits), RedisBackend(client, prefix=unique_prefix()))
    assert limiter.try_acquire(inbound_envelope(BOB))
    decision = limiter.try_acquire(inbound_envelope(ANN, BOB, CY))
    assert actions(decision) == [Action.ACCEPT, Action.DEFER, Action.ACCEPT]
    assert decision.recipients is not None
    limiter.refund(decision.recipients[ANN])
    assert actions(limiter.check(inbound_envelope(ANN, CY))) == [Action.ACCEPT, Action.DEFER]
    limiter.refund(decision)
    assert actions(limiter.check(inbound_envelope(ANN, BOB, CY))) == [
        Action.ACCEPT,
        Action.DEFER,
        Action.ACCEPT,
    ]
    with pytest.raises(ValueError, match="already"):
        limiter.refund(decision)


def test_a_foreign_value_at_the_key_of_a_limit_that_only_reports_refuses_no_message(
    client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    prefix = unique_prefix()
    limits: list[Limit] = [MessageRateLimit("9/day"), MessageRateLimit("1/day", enforce=False)]
    limiter = Limiter(campus_policy(limits), RedisBackend(client, prefix=prefix))
    envelope = Envelope(ANN, [OUT])
    assert limiter.try_acquire(envelope).shadow
    reported = [key for key in client.scan_iter(f"{prefix}*", count=10_000) if b"shadow" in key]
    assert reported
    for key in reported:
        client.delete(key)
        client.sadd(key, "another program's")
    with caplog.at_level(logging.WARNING):
        decision = limiter.try_acquire(envelope)
    assert decision
    assert decision.shadow is None
    assert "the answer of shadow limits is not known" in caplog.text
    limiter.refund(decision)
    assert limiter.usage(ANN)[0].used == 1


def test_bookings_of_limits_that_only_report_can_be_cancelled(client: redis.Redis) -> None:
    clock = ManualClock()
    limits: list[Limit] = [
        MessageRateLimit("1/minute"),
        MessageRateLimit("2/day", enforce=False),
    ]
    limiter = Limiter(
        campus_policy(limits),
        RedisBackend(client, prefix=unique_prefix(), clock=clock),
        sleep=clock.advance,
    )
    envelope = Envelope(ANN, [OUT])
    first, second, third = (limiter.reserve(envelope) for _ in range(3))
    assert [each.delay for each in (first, second, third)] == [0, 60, 120]
    reported = [each.decision.shadow for each in (first, second, third)]
    assert [bool(each) for each in reported] == [True, True, False]
    second.cancel()
    assert limiter.check(envelope).shadow
    assert limiter.acquire(envelope).shadow
    assert not limiter.acquire(envelope).shadow
