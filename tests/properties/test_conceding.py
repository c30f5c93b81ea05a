"""Overrides, exemptions and grants, compared with a plain policy for each message.

Each plain policy has the numbers that apply to its message. They share one name and one backend,
which stores all messages, so a policy with concessions must answer as they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import (
    Action,
    Client,
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.conditions import has_tag, not_
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.overrides import Concession, Exemption, Grant, Override
from ratelimit_mail.testing import BruteForceBackend, ManualClock

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
BEGIN = MIDNIGHT - timedelta(seconds=4)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INSIDE = ["uwo.ca"]

PEOPLE = ["ann@uwo.ca", "bob@uwo.ca", "cy@sub.uwo.ca", "<>"]
NAMES = ["one", "two", "three"]
TAGGED, UNTAGGED = has_tag("x"), not_(has_tag("x"))
DAYS = [date(2026, 3, 1), date(2026, 3, 2)]
ENVELOPES = [
    (sender, recipients, tags)
    for sender in PEOPLE
    for recipients in (["d@uwo.ca"], ["e@x.org"], ["d@uwo.ca", "e@x.org", "f@y.org"])
    for tags in ((), ("x",))
]


def a_rate(random: Random) -> str:
    return f"{random.randint(2, 7)}/{random.randint(1, 6)} seconds"


def some_limits(random: Random) -> list[Limit]:
    limits: list[Limit] = []
    for name in NAMES:
        kind = random.choice((MessageRateLimit, RecipientRateLimit))
        options: dict[str, Any] = {
            "scope": random.choice(("sender", "sender", "sender_domain", "global")),
            "count": random.choice(("all", "external")),
            "denied": random.choice(("ignore", "ignore", "count")),
            "on_excess": random.choice(("defer", "reject")),
            "resolution": random.choice((None, None, "1 second")),
            "share": random.choice((None, None, 0.5)),
        }
        limits.append(kind(a_rate(random), name=name, **options))
    return [RecipientLimit(random.randint(1, 3), name="most"), *limits[: random.randint(1, 3)]]


def a_time(random: Random) -> date | None:
    moment = BEGIN + timedelta(milliseconds=random.randint(0, 12_000))
    return random.choice([None, None, moment, random.choice(DAYS)])


def start_of(moment: date) -> datetime:
    if isinstance(moment, datetime):
        return moment
    return datetime.combine(moment, time(), UTC)


def end_of(moment: date) -> datetime:
    return start_of(moment) + timedelta(days=not isinstance(moment, datetime))


def for_whom_and_when(random: Random) -> dict[str, Any]:
    senders = random.choices([*PEOPLE[:2], *PEOPLE, "uwo.ca", ".uwo.ca"], k=random.randint(0, 3))
    when = random.choice([None, None, TAGGED, UNTAGGED] if senders else [TAGGED, UNTAGGED])
    starts, ends = a_time(random), a_time(random)
    if starts is not None and ends is not None and end_of(ends) <= start_of(starts):
        ends = None
    return {"senders": senders, "when": when, "starts": starts, "ends": ends}


def an_override(random: Random, names: list[str]) -> Override:
    numbers: dict[str, int | str] = {}
    for name in random.sample(names, random.randint(1, len(names))):
        numbers[name] = random.choice((random.randint(2, 7), a_rate(random)))
        if name == "most":
            numbers[name] = random.randint(1, 3)
    return Override(numbers, **for_whom_and_when(random))


def an_exemption(random: Random, names: list[str]) -> Exemption:
    some = random.sample(names, random.randint(1, len(names)))
    return Exemption(random.choice((None, some, some)), **for_whom_and_when(random))


def a_policy(random: Random) -> Policy:
    limits = some_limits(random)
    names = [limit.name for limit in limits if limit.name is not None]
    grants = [Grant(**for_whom_and_when(random)) for _ in range(random.randint(0, 4))]
    in_a_tier = random.randint(0, len(limits))
    return Policy(
        name="p",
        internal_domains=INSIDE,
        limits=limits[in_a_tier:],
        tiers=[Tier("all", limits=limits[:in_a_tier])],
        overrides=[an_override(random, names) for _ in range(random.randint(1, 5))],
        exemptions=[an_exemption(random, names) for _ in range(random.randint(0, 2))],
        grants=random.choice((None, None, None, grants)),
    )


# As the documentation defines them


def concerns(each: Concession, envelope: Envelope, now: datetime) -> bool:
    sender, domain = envelope.sender, envelope.sender.partition("@")[2]
    if each.senders and not any(
        domain.endswith(name) if name.startswith(".") else name in (sender, domain)
        for name in each.senders
    ):
        return False
    if each.when is not None and (each.when == TAGGED) != ("x" in envelope.client.tags):
        return False
    today = now.date()
    if isinstance(each.starts, datetime):
        if now < each.starts:
            return False
    elif each.starts is not None and today < each.starts:
        return False
    if isinstance(each.ends, datetime):
        return now < each.ends
    return each.ends is None or today <= each.ends


def in_force(policy: Policy, limits: Sequence[Limit], envelope: Envelope, now: datetime) -> Any:
    """Yield the limits that apply to this message now, with their numbers."""
    for limit in limits:
        exempt = [each for each in policy.exemptions if concerns(each, envelope, now)]
        if any(each.limits is None or limit.name in each.limits for each in exempt):
            continue
        number = next(
            (
                each.limits[limit.name or ""]
                for each in policy.overrides
                if limit.name in each.limits and concerns(each, envelope, now)
            ),
            None,
        )
        if number is None:
            yield limit
        elif isinstance(limit, RateLimit):
            seconds = limit.window // 1000
            rate = f"{number}/{seconds} seconds" if isinstance(number, int) else number
            yield attrs.evolve(limit, rate=rate)
        else:
            yield attrs.evolve(limit, limit=int(number))


class PlainLimiters:
    """Limiters with a new policy for each message, without concessions."""

    def __init__(self, policy: Policy, clock: ManualClock) -> None:
        self.policy, self.clock = policy, clock
        self.backend = BruteForceBackend(clock)

    def limiter_for(self, envelope: Envelope) -> Limiter:
        now = EPOCH + timedelta(milliseconds=self.clock())
        policy = self.policy
        plain = Policy(
            name="p",
            internal_domains=INSIDE,
            limits=in_force(policy, policy.limits, envelope, now),
            tiers=[
                Tier(tier.name, limits=in_force(policy, tier.limits, envelope, now))
                for tier in policy.tiers
            ],
        )
        return Limiter(plain, self.backend, sleep=self.clock.advance)

    def may_send(self, envelope: Envelope) -> bool:
        now = EPOCH + timedelta(milliseconds=self.clock())
        grants = self.policy.grants
        return grants is None or any(concerns(each, envelope, now) for each in grants)


def answer(limiter: Limiter, method: str, envelope: Envelope) -> Any:
    """Return what a limiter answers, for comparison, and the decision to refund."""
    if method == "usage":
        # Refused attempts that do not change an answer may be missing.
        usages = limiter.usage(envelope.sender, client=envelope.client)
        return [(u.limit, min(u.used, u.limit.limit), u.remaining) for u in usages], None
    if method == "book":
        try:
            booked = limiter.reserve(envelope, 5)
        except RateLimitExceeded as error:
            return ("not booked", error.decision), None
        return ("booked", booked.delay, booked.decision), booked.decision
    decision = limiter.check(envelope) if method == "check" else limiter.try_acquire(envelope)
    return decision, decision if decision and method == "take" else None


@given(st.randoms(use_true_random=False))
def test_concessions_decide_as_a_plain_policy_with_the_current_numbers(
    random: Random,
) -> None:
    policy = a_policy(random)
    clock = ManualClock((BEGIN - EPOCH) // timedelta(milliseconds=1))
    limiter = Limiter(policy, MemoryBackend(clock), sleep=clock.advance)
    plain = PlainLimiters(policy, clock)
    envelopes = [Envelope(s, r, Client(tags=t)) for s, r, t in ENVELOPES]  # used again
    accepted: list[tuple[Decision, Limiter, Decision]] = []
    for _ in range(40):
        clock.advance(random.choice((0, 0, 0, 0.001, 0.25, 0.999, 1)))
        method = random.choice(("take", "take", "take", "check", "book", "usage", "refund"))
        number = random.randrange(len(ENVELOPES))
        if method == "refund":
            if accepted:
                mine, other, its = accepted.pop(number % len(accepted))
                limiter.refund(mine)
                other.refund(its)
            continue
        envelope = envelopes[number]
        actual, mine = answer(limiter, method, envelope)
        if method != "usage" and not plain.may_send(envelope):
            refusal = actual[1] if method == "book" else actual
            assert refusal.action is Action.REJECT
            assert str(refusal.rule) == "senders must be granted first"
            continue
        sender, recipients, tags = ENVELOPES[number]
        other = plain.limiter_for(envelope)
        expected, its = answer(other, method, Envelope(sender, recipients, Client(tags=tags)))
        assert actual == expected
        if mine is not None:
            accepted.append((mine, other, its))


@given(st.randoms(use_true_random=False))
def test_limiters_of_one_policy_name_with_different_numbers_share_counts(random: Random) -> None:
    clock = ManualClock()
    backends = MemoryBackend(clock), BruteForceBackend(clock)
    limits = [limit for limit in some_limits(random) if isinstance(limit, RateLimit)]
    pairs = []
    for _ in range(3):
        changed = [attrs.evolve(each, rate=a_rate(random)) for each in limits]
        policy = Policy(name="p", internal_domains=INSIDE, limits=changed)
        pairs.append([Limiter(policy, backend) for backend in backends])
    for pair in pairs:  # so that the memory knows each policy's retention
        for limiter in pair:
            for recipient in ("d@uwo.ca", "e@x.org"):  # alone, so that each fits
                limiter.try_acquire(Envelope("zoe@elsewhere.org", [recipient]))
    for _ in range(60):
        clock.advance(random.choice((0, 0, 0, 0, 0.001, 0.2, 1)))
        method = random.choice(("take", "take", "take", "take", "check", "book", "usage"))
        sender, recipients, tags = random.choice(ENVELOPES[:9])
        envelope = Envelope(sender, recipients, Client(tags=tags))
        actual, expected = (
            answer(limiter, method, envelope)[0] for limiter in random.choice(pairs)
        )
        assert actual == expected
