"""The decisions of a replay, compared with those of a limiter at the same times."""

from __future__ import annotations

import random
import weakref
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ratelimit_mail import (
    Client,
    Decision,
    Directory,
    Envelope,
    Exemption,
    Grant,
    Limiter,
    MailingList,
    MessageRateLimit,
    Override,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.cli.replay.decider import decider, is_countable
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.testing import ManualClock
from ratelimit_mail.testing.generated_scripts import (
    LONG_PAUSES,
    RECIPIENTS,
    SENDERS,
    START,
    generated_script,
)

Mail = list[tuple[int, Envelope]]


def generated_mail(dice: random.Random, start: int, number: int = 50) -> Mail:
    """Generate messages in order of time; some of them have the same envelope."""
    pool = [
        Envelope(
            dice.choice(SENDERS),
            dice.sample(RECIPIENTS, dice.choice((1, 1, 1, 2, 2, 3, 4, 5))),
            Client(
                address=dice.choice((None, "10.0.0.1", "10.0.0.2")),
                tags=dice.choice((set(), {"wireless"})),
            ),
            size=dice.choice((1, 1, 2, 4)),
        )
        for _ in range(12)
    ]
    time, mail = start, Mail()
    for _ in range(number):
        time += round(1000 * dice.choice(LONG_PAUSES))
        mail.append((time, dice.choice(pool)))
    return mail


def countable(limits: Sequence[Limit]) -> list[Limit]:
    return [
        limit
        for limit in limits
        if not isinstance(limit, RateLimit)
        or not (limit.is_unique or limit.on_oversize == "spread")
    ]


def decisions_of_a_limiter(policy: Policy, mail: Mail) -> list[Decision]:
    clock = ManualClock(0)
    limiter = Limiter(policy, MemoryBackend(clock=clock))
    decisions = []
    for time, envelope in mail:
        clock.set(time)
        decisions.append(limiter.try_acquire(envelope))
    return decisions


def decisions_of_a_replay(policy: Policy, mail: Mail) -> list[Decision]:
    decide = decider(policy)
    return [decide(time, envelope) for time, envelope in mail]


@pytest.mark.parametrize("seeds", [range(80), range(80, 160), range(160, 240), [1278]])
def test_a_replay_decides_as_a_limiter_does(seeds: Sequence[int]) -> None:
    refused = 0
    for each in seeds:
        dice = random.Random(each)
        script = generated_script(dice, steps=0)
        policy = script.policy.evolve(
            limits=countable(script.policy.limits),
            tiers=[
                Tier(tier.name, when=tier.when, limits=countable(tier.limits))
                for tier in script.policy.tiers
            ],
        )
        assert is_countable(policy)
        mail = generated_mail(dice, script.start, 80)
        decisions = decisions_of_a_replay(policy, mail)
        assert decisions == decisions_of_a_limiter(policy, mail), (each, policy)
        refused += sum(not decision for decision in decisions)
    assert refused > 20 * len(seeds)


def test_senders_that_keep_trying_are_refused_as_by_a_limiter() -> None:
    def limit(rate: str, **options: Any) -> RecipientRateLimit:
        return RecipientRateLimit(rate, on_excess="reject", **options)

    policy = Policy(
        name="x",
        limits=[
            limit("8/15 minutes", denied="count"),
            limit("150/day", denied="count"),
            limit("6/minute"),
            MessageRateLimit("260/day", scope="global", denied="count"),
        ],
    )
    assert is_countable(policy)
    dice = random.Random(5)
    time, mail = START, Mail()
    for _ in range(4000):
        time += dice.choice((0, 1000, 20_000, 60_000, 600_000))
        recipients = [f"r{number}@x.org" for number in range(dice.choice((1, 1, 1, 2, 5)))]
        mail.append((time, Envelope(dice.choice(SENDERS), recipients)))
    decisions = decisions_of_a_replay(policy, mail)
    assert decisions == decisions_of_a_limiter(policy, mail)
    assert {decision.limit for decision in decisions} == {None, *policy.limits}


MOMENT = datetime.fromtimestamp(START / 1000, UTC)


@pytest.mark.parametrize(
    "options",
    [
        {"overrides": [Override(senders=["ann@uwo.ca"], limits={"a minute": 5})]},
        {
            "overrides": [
                Override(
                    senders=["ann@uwo.ca"],
                    limits={"a minute": 5},
                    starts=MOMENT + timedelta(minutes=3),
                    ends=MOMENT + timedelta(minutes=9),
                )
            ]
        },
        {"exemptions": [Exemption(senders=["ann@uwo.ca"])]},
        {"grants": [Grant(senders=["ann@uwo.ca"])]},
        {"directory": Directory(lists=[MailingList("c@uwo.ca", posting="moderated")])},
        {"directory": Directory(aliases={"bob@uwo.ca": "ann@uwo.ca"})},
        {"per_node": True},
        {"tiers": [Tier("slow", when=has_tag("wireless"), limits=[MessageRateLimit("1/minute")])]},
        {"limits": [MessageRateLimit("2/minute", on_excess="block")]},
        {"limits": [MessageRateLimit("2/minute", enforce=False), MessageRateLimit("3/minute")]},
        {"limits": [RecipientRateLimit("3/minute", unique=True)]},
        {"limits": [RecipientRateLimit("3/minute", on_oversize="spread")]},
    ],
    ids=lambda options: "-".join(options),
)
def test_whatever_a_policy_concedes_a_replay_decides_as_a_limiter_does(
    options: dict[str, Any],
) -> None:
    limits = [RecipientLimit(3), MessageRateLimit("2/minute", name="a minute")]
    policy = Policy(**{"name": "x", "limits": limits, "internal_domains": ["uwo.ca"], **options})
    mail = generated_mail(random.Random(3), START, 200)
    decisions = decisions_of_a_replay(policy, mail)
    assert decisions == decisions_of_a_limiter(policy, mail)
    assert len({(decision.action, decision.limit) for decision in decisions}) > 1


def test_an_envelope_with_many_recipients_is_forgotten_once_it_is_decided() -> None:
    decide = decider(Policy(name="test", limits=[RecipientRateLimit("1000/day")]))
    envelope = Envelope("ann@uwo.ca", [f"bob{i}@example.com" for i in range(500)])
    is_there = weakref.ref(envelope)
    assert [decide(time, envelope).action.value for time in range(3)] == ["accept"] * 2 + ["defer"]
    del envelope
    assert is_there() is None


def test_a_policy_of_hundreds_of_numbers_is_decided_on_by_a_limiter() -> None:
    def policy(number: int) -> Policy:
        overrides = [
            Override({"messages": each + 1}, senders=[f"a{each}@x.org"]) for each in range(number)
        ]
        limits = [MessageRateLimit("1000/day", name="messages")]
        return Policy(name="x", limits=limits, overrides=overrides)

    assert is_countable(policy(200))
    assert not is_countable(policy(300))
