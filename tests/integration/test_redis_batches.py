"""Batches: how many calls they take, and that each message's charge can be taken out alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from rlm_testkit.load import own_prefix
from rlm_testkit.redis_backends import letter
from rlm_testkit.servers import Server

from ratelimit_mail import Decision, Envelope, Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import RedisBackend
from ratelimit_mail.backends.redis.transport import Transport

POLICY = Policy(
    name="test",
    limits=[MessageRateLimit("3/minute"), RecipientRateLimit("40/minute", scope="sender_domain")],
)


class Counting:
    """A limiter, and the number of scripts that it has run."""

    def __init__(self, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
        self.limiter = Limiter(POLICY, RedisBackend(client, prefix=own_prefix()))
        self.calls = 0
        run = Transport.run

        def counted(*arguments: object) -> object:
            self.calls += 1
            return run(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(Transport, "run", counted)

    def send(self, *envelopes: Envelope) -> tuple[list[bool], int]:
        """Which of a batch may go, and how many calls that took."""
        decisions, calls = self.decide(*envelopes)
        return [decision.allowed for decision in decisions], calls

    def decide(self, *envelopes: Envelope) -> tuple[list[Decision], int]:
        before = self.calls
        return self.limiter.try_acquire_many(envelopes), self.calls - before

    def used(self, sender: str) -> list[int]:
        return [usage.used for usage in self.limiter.usage(sender)]


@pytest.fixture
def counting(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    with server.client() as client:
        yield Counting(client, monkeypatch)


def of(*senders: str) -> list[Envelope]:
    return [letter(sender=sender) for sender in senders]


def test_what_fits_together_takes_one_call(counting: Counting) -> None:
    assert counting.send(*of(*(f"{i}@{i}.org" for i in range(100)))) == ([True] * 100, 1)


def test_one_sender_with_too_many_does_not_keep_the_others_apart(counting: Counting) -> None:
    many = of("a@a.org", *["b@b.org"] * 5, "c@c.org")
    assert counting.send(*many) == ([True] * 4 + [False] * 2 + [True], 2)


def test_one_sender_without_room_does_not_keep_the_others_apart(counting: Counting) -> None:
    counting.send(*of(*["b@b.org"] * 3))
    assert counting.send(*of("a@a.org", "b@b.org", "c@c.org")) == ([True, False, True], 3)


def test_those_who_share_a_limit_are_decided_in_order(counting: Counting) -> None:
    counting.send(*of(*(f"{i}@x.org" for i in range(38))))
    allowed, _ = counting.send(*of("a@a.org", "b@x.org", "c@x.org", "d@x.org", "e@e.org"))
    assert allowed == [True, True, True, False, True]


@pytest.mark.parametrize("was_reset", [False, True])
def test_a_refund_takes_out_its_own_share_alone(counting: Counting, was_reset: bool) -> None:
    if was_reset:
        counting.send(*of("a@a.org", "b@a.org"))
        counting.limiter.reset("a@a.org")
    decisions, calls = counting.decide(*of("a@a.org", "a@a.org", "b@b.org"))
    assert calls == 1
    before = counting.used("a@a.org")
    counting.limiter.refund(decisions[1])
    assert counting.used("a@a.org") == [used - 1 for used in before]
    assert counting.used("b@b.org")[0] == 1
    counting.limiter.refund(decisions[2])
    assert counting.used("b@b.org")[0] == 0
