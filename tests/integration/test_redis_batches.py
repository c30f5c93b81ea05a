"""Batches: how many calls they take, and that each message can be refunded separately."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from rlm_testkit.redis_backends import envelope_from, unique_prefix
from rlm_testkit.servers import Server

from ratelimit_mail import Decision, Envelope, Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import RedisBackend
from ratelimit_mail.backends.redis.transport import Transport

POLICY = Policy(
    name="test",
    limits=[MessageRateLimit("3/minute"), RecipientRateLimit("40/minute", scope="sender_domain")],
)


class CountedLimiter:
    """A limiter that counts the calls of scripts."""

    def __init__(self, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
        self.limiter = Limiter(POLICY, RedisBackend(client, prefix=unique_prefix()))
        self.calls = 0
        run = Transport.run

        def count_and_run(*arguments: object) -> object:
            self.calls += 1
            return run(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(Transport, "run", count_and_run)

    def send(self, *envelopes: Envelope) -> tuple[list[bool], int]:
        """Return which envelopes of a batch are accepted, and how many calls that took."""
        decisions, calls = self.decide(*envelopes)
        return [decision.allowed for decision in decisions], calls

    def decide(self, *envelopes: Envelope) -> tuple[list[Decision], int]:
        before = self.calls
        return self.limiter.try_acquire_many(envelopes), self.calls - before

    def used(self, sender: str) -> list[int]:
        return [usage.used for usage in self.limiter.usage(sender)]


@pytest.fixture
def counted(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[CountedLimiter]:
    with server.client() as client:
        yield CountedLimiter(client, monkeypatch)


def envelopes_from(*senders: str) -> list[Envelope]:
    return [envelope_from(sender=sender) for sender in senders]


def test_messages_that_fit_together_take_one_call(counted: CountedLimiter) -> None:
    assert counted.send(*envelopes_from(*(f"{i}@{i}.org" for i in range(100)))) == ([True] * 100, 1)


def test_a_sender_with_too_many_messages_does_not_split_the_other_messages(
    counted: CountedLimiter,
) -> None:
    envelopes = envelopes_from("a@a.org", *["b@b.org"] * 5, "c@c.org")
    assert counted.send(*envelopes) == ([True] * 4 + [False] * 2 + [True], 2)


def test_a_sender_without_room_does_not_split_the_other_messages(counted: CountedLimiter) -> None:
    counted.send(*envelopes_from(*["b@b.org"] * 3))
    assert counted.send(*envelopes_from("a@a.org", "b@b.org", "c@c.org")) == (
        [True, False, True],
        3,
    )


def test_messages_that_share_a_limit_are_decided_in_order(counted: CountedLimiter) -> None:
    counted.send(*envelopes_from(*(f"{i}@x.org" for i in range(38))))
    allowed, _ = counted.send(
        *envelopes_from("a@a.org", "b@x.org", "c@x.org", "d@x.org", "e@e.org")
    )
    assert allowed == [True, True, True, False, True]


@pytest.mark.parametrize("was_reset", [False, True])
def test_a_refund_takes_out_only_its_own_share(counted: CountedLimiter, was_reset: bool) -> None:
    if was_reset:
        counted.send(*envelopes_from("a@a.org", "b@a.org"))
        counted.limiter.reset("a@a.org")
    decisions, calls = counted.decide(*envelopes_from("a@a.org", "a@a.org", "b@b.org"))
    assert calls == 1
    before = counted.used("a@a.org")
    counted.limiter.refund(decisions[1])
    assert counted.used("a@a.org") == [used - 1 for used in before]
    assert counted.used("b@b.org")[0] == 1
    counted.limiter.refund(decisions[2])
    assert counted.used("b@b.org")[0] == 0
