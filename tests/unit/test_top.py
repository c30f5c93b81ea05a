"""`Limiter.top`: who used most of the limits, by the limits that each of them has."""

from __future__ import annotations

import pytest
from rlm_testkit.builders import campus_policy, envelope_to

from ratelimit_mail import (
    AsyncLimiter,
    Client,
    Directory,
    Envelope,
    Exemption,
    Limiter,
    MessageRateLimit,
    Override,
    Policy,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.conditions import protocol

HOURLY = MessageRateLimit("10/hour", name="messages")


def charge(limiter: Limiter, **counts: int) -> None:
    for name, count in counts.items():
        for _ in range(count):
            assert limiter.try_acquire(envelope_to(1, f"{name}@uwo.ca"))


def names(limiter: Limiter, n: int = 10) -> list[str]:
    return [str(each.subject).partition("@")[0] for each in limiter.top(n=n)]


def test_a_sender_is_ranked_by_the_limits_of_its_own() -> None:
    overrides = [
        Override({"messages": 100}, senders=["many@uwo.ca"]),
        Override({"messages": 4}, senders=["few@uwo.ca"]),
    ]
    policy = campus_policy(HOURLY, overrides=overrides)
    limiter = Limiter(policy)
    charge(limiter, many=30, few=3, ann=6)
    shares = {each.subject: each.share for each in limiter.top()}
    assert shares == {"few@uwo.ca": 0.75, "ann@uwo.ca": 0.6, "many@uwo.ca": 0.3}
    assert names(limiter, 1) == ["few"]


def test_a_lower_limit_of_one_sender_is_found_among_many() -> None:
    overrides = [Override({"messages": 2}, senders=["few@uwo.ca"])]
    limiter = Limiter(
        campus_policy(MessageRateLimit("500/hour", name="messages"), overrides=overrides)
    )
    charge(limiter, few=2)
    for number in range(150):
        charge(limiter, **{f"s{number}": 3})
    assert names(limiter, 1) == ["few"]


def test_who_is_exempt_is_not_listed() -> None:
    policy = campus_policy(HOURLY, exemptions=[Exemption(senders=["free@uwo.ca"])])
    limiter = Limiter(policy)
    charge(limiter, ann=2)
    for _ in range(20):
        assert limiter.try_acquire(envelope_to(1, "free@uwo.ca"))
    assert names(limiter) == ["ann"]


def test_the_client_chooses_the_tier_whose_limits_rank() -> None:
    tiers = [
        Tier("webmail", when=protocol("webmail"), limits=[MessageRateLimit("5/hour")]),
        Tier("other", limits=[RecipientRateLimit("100/hour")]),
    ]
    limiter = Limiter(Policy(name="test", tiers=tiers))
    for sender, messages, recipients in (("often", 4, 1), ("many", 1, 50)):
        for _ in range(messages):
            assert limiter.try_acquire(envelope_to(recipients, f"{sender}@uwo.ca"))
    assert names(limiter) == ["many", "often"]
    webmail = limiter.top(client=Client(protocol="webmail"))
    assert [each.share for each in webmail] == [0.8, 0.2]


def test_limits_that_only_report_rank_too() -> None:
    limiter = Limiter(campus_policy(MessageRateLimit("4/hour", enforce=False)))
    charge(limiter, ann=3, bob=1)
    first, second = limiter.top()
    assert (first.share, second.share) == (0.75, 0.25)
    assert not first.usages[0].limit.enforce


def test_an_alias_is_its_owner_and_a_block_is_shown() -> None:
    policy = campus_policy(HOURLY, directory=Directory({"a.lee@uwo.ca": "ann@uwo.ca"}))
    limiter = Limiter(policy)
    limiter.try_acquire(envelope_to(1, "a.lee@uwo.ca"))
    charge(limiter, ann=1)
    block = limiter.block("a.lee@uwo.ca", reason="stolen")
    [only] = limiter.top()
    assert (only.subject, only.usages[0].used) == ("ann@uwo.ca", 2)
    assert only.block is not None
    assert only.block.reason == block.reason


def test_counted_attempts_may_exceed_a_limit() -> None:
    limiter = Limiter(campus_policy(MessageRateLimit("2/hour", denied="count")))
    for _ in range(5):
        limiter.try_acquire(envelope_to(1))
    assert limiter.top()[0].share > 1


def test_a_submitter_has_the_limits_of_its_sender() -> None:
    limit = MessageRateLimit("10/hour", scope="submitter", name="messages")
    overrides = [Override({"messages": 100}, senders=["many@uwo.ca"])]
    limiter = Limiter(campus_policy(limit, overrides=overrides))
    charge(limiter, many=9, ann=2)
    limiter.try_acquire(envelope_to(1, "x@uwo.ca", Client(user="Kim")))
    listed = [(each.subject, each.share) for each in limiter.top("submitter")]
    assert listed == [("sender:ann@uwo.ca", 0.2), ("user:kim", 0.1), ("sender:many@uwo.ca", 0.09)]


async def test_an_async_limiter_has_the_same_answer() -> None:
    limiter = AsyncLimiter(campus_policy(HOURLY))
    for sender in ("ann@uwo.ca", "bob@uwo.ca", "bob@uwo.ca"):
        await limiter.try_acquire(Envelope(sender, ["x@example.com"]))
    top = await limiter.top(n=1)
    assert [(each.subject, each.share) for each in top] == [("bob@uwo.ca", 0.2)]


def test_what_cannot_be_listed_is_refused() -> None:
    limiter = Limiter(campus_policy(HOURLY))
    for n in (0, 10_001):
        with pytest.raises(ValueError, match="n: "):
            limiter.top(n=n)
    with pytest.raises(TypeError, match="n: "):
        limiter.top(n="10")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scope: 'x'"):
        limiter.top("x")
    with pytest.raises(TypeError, match="client: "):
        limiter.top(client="10.0.0.1")  # type: ignore[arg-type]
