"""What a policy charges an envelope, in which counts, and which limit it can never meet."""

from __future__ import annotations

from itertools import chain, combinations

import pytest
from rlm_testkit.builders import costs_of, costs_of_plan, envelope_to, users_at

from ratelimit_mail import (
    ByteRateLimit,
    Client,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.counting.charge import FIRST_UNIQUE, UNITS
from ratelimit_mail.counting.window import Retention
from ratelimit_mail.limits import Limit
from ratelimit_mail.scopes import (
    SCOPES,
)

MINUTE = 60_000
DAY = 86_400_000
INSIDE = ["uwo.ca", ".uwo.ca"]


def campus_policy(*limits: Limit) -> Policy:
    return Policy(name="p", limits=limits, internal_domains=INSIDE)


# Costs


def test_a_message_costs_one_message_and_each_of_its_recipients() -> None:
    policy = campus_policy(MessageRateLimit("30/minute"), RecipientRateLimit("500/day"))
    assert costs_of(policy, envelope_to(["a@x.org", "b@x.org", "a@X.ORG"])) == {
        ("p:sender:messages", "ann@uwo.ca"): 1,
        ("p:sender:recipients", "ann@uwo.ca"): 2,
    }


@pytest.mark.parametrize(
    ("recipients", "messages", "cost"),
    [
        (["a@x.org"], 1, 1),
        (["a@x.org", "b@uwo.ca"], 1, 1),
        (["a@x.org", "b@uwo.ca", "c@mail.uwo.ca", "d@y.org"], 1, 2),
        (["a@notuwo.ca"], 1, 1),
        (["a@uwo.ca.x.org"], 1, 1),
        (["b@UWO.ca", "c@deep.mail.uwo.ca"], 0, 0),
    ],
)
def test_a_limit_on_external_recipients_does_not_count_internal_ones(
    recipients: list[str], messages: int, cost: int
) -> None:
    policy = campus_policy(
        MessageRateLimit("30/minute", count="external"),
        RecipientRateLimit("500/day", count="external"),
    )
    expected = {
        ("p:sender:external messages", "ann@uwo.ca"): messages,
        ("p:sender:external recipients", "ann@uwo.ca"): cost,
    }
    assert costs_of(policy, envelope_to(recipients)) == {k: n for k, n in expected.items() if n}


def test_a_limit_on_all_recipients_counts_internal_ones() -> None:
    policy = campus_policy(
        RecipientRateLimit("500/day"), RecipientRateLimit("50/day", count="external")
    )
    assert costs_of(policy, envelope_to(["a@uwo.ca", "b@x.org"])) == {
        ("p:sender:recipients", "ann@uwo.ca"): 2,
        ("p:sender:external recipients", "ann@uwo.ca"): 1,
    }


def test_without_internal_domains_all_recipients_are_external() -> None:
    policy = Policy(name="p", limits=[RecipientRateLimit("5/day", count="external")])
    assert list(costs_of(policy, envelope_to(["a@uwo.ca", "b@x.org"])).values()) == [2]


def test_a_domain_literal_can_be_an_internal_domain() -> None:
    limit = RecipientRateLimit("5/day", count="external")
    policy = Policy(name="p", limits=[limit], internal_domains=["[192.0.2.1]"])
    assert list(costs_of(policy, envelope_to(["a@[192.0.2.1]", "a@[192.0.2.2]"])).values()) == [1]


def test_a_policy_without_limits_charges_nothing() -> None:
    assert costs_of(Policy(name="p"), envelope_to(users_at("x.org", 1000))) == {}


def test_the_same_envelope_has_the_same_plan() -> None:
    policy, mail = (
        campus_policy(RecipientRateLimit("5/day", scope="recipient")),
        envelope_to(users_at("x.org", 3)),
    )
    assert policy.plan(mail) == policy.plan(mail)


# Counts


def test_limits_of_one_scope_and_unit_are_windows_of_one_count() -> None:
    minute, day = MessageRateLimit("30/minute"), MessageRateLimit("500/day", denied="count")
    policy = campus_policy(minute, RecipientRateLimit("9/day"), day)
    ((ledger, _, _),) = policy.plan(envelope_to(["a@x.org"])).charges
    messages, _ = ledger.counts
    assert [(w.limit, w.length, w.denied) for w in messages.windows] == [
        (30, MINUTE, False),
        (500, DAY, True),
    ]
    effective = policy.plan(envelope_to(["a@x.org"])).effective_limits
    assert [effective.limit_of(messages, i) for i in (0, 1)] == [minute, day]
    assert (messages.smallest, messages.counts_denied) == (30, True)


def test_the_name_of_a_count_has_neither_limit_nor_window_nor_tier() -> None:
    strict = Tier("strict", when=has_tag("x"), limits=[MessageRateLimit("1/second")])
    lax = Tier("lax", limits=[MessageRateLimit("9/day", denied="count", resolution="1 second")])
    policy = Policy(name="p", tiers=[strict, lax])
    names = {
        name
        for tags in ("x", "y")
        for name, _, _ in costs_of_plan(
            policy.plan(envelope_to(["a@x.org"], client=Client(tags={tags})))
        )
    }
    assert names == {"p:sender:messages"}


def test_a_log_is_retained_for_the_longest_window_of_any_tier() -> None:
    policy = Policy(
        name="p",
        tiers=[
            Tier("a", when=has_tag("a"), limits=[MessageRateLimit("9/minute", denied="count")]),
            Tier("b", limits=[MessageRateLimit("5/day")]),
        ],
    )
    (charge,) = policy.plan(envelope_to(["a@x.org"], client=Client(tags={"a"}))).charges
    assert charge[0].counts[0].retention == Retention(DAY, 1, 9)
    assert charge[0].span == DAY


def test_a_coarse_log_serves_each_of_its_windows_exactly() -> None:
    policy = campus_policy(
        MessageRateLimit("9/minute", resolution="6 seconds"),
        MessageRateLimit("99/day", resolution="10 seconds"),
    )
    (charge,) = policy.plan(envelope_to(["a@x.org"])).charges
    assert charge[0].counts[0].retention == Retention(DAY + 9_999, 2_000, 0)
    assert charge[0].span == DAY + 9_999


ALL_SCOPES = [
    *chain.from_iterable(combinations(SCOPES[:-1], size) for size in range(1, len(SCOPES))),
    ("global",),
]
KINDS = [
    (kind, count)
    for kind in (ByteRateLimit, MessageRateLimit, RecipientRateLimit)
    for count in ("all", "external")
]


def test_no_two_ledgers_share_a_name() -> None:
    limits = [
        kind("5/day", scope=scope, count=count)  # type: ignore[arg-type]
        for scope in ALL_SCOPES
        for kind, count in KINDS
    ]
    limits += [
        RecipientRateLimit("5/day", scope=scope, count=count, unique=True)
        for scope in ALL_SCOPES
        for count in ("all", "external")
        if "recipient" not in scope
    ]
    names = ("p", "p-p", "p p", "sender", "p.sender")
    policies = [Policy(name=name, limits=limits) for name in names]
    ledgers = [
        ledger for policy in policies for scope in ALL_SCOPES for ledger in policy.ledgers_of(scope)
    ]
    assert len(ledgers) == len({ledger.name for ledger in ledgers}) == 5 * len(ALL_SCOPES)
    for ledger in ledgers:
        units = [*range(len(UNITS))]
        if "recipient" in ledger.name.rpartition(":")[2].split("+"):
            units = units[:FIRST_UNIQUE]
        assert sorted(count.unit for count in ledger.counts) == units


def test_ledgers_of_a_scope_include_those_of_every_tier_once() -> None:
    policy = Policy(
        name="p",
        limits=[MessageRateLimit("5/day")],
        tiers=[
            Tier("a", when=has_tag("a"), limits=[RecipientRateLimit("5/day")]),
            Tier(
                "b", limits=[RecipientRateLimit("5/day"), MessageRateLimit("5/day", scope="user")]
            ),
        ],
    )
    assert [ledger.name for ledger in policy.ledgers_of(("sender",))] == ["p:sender"]
    assert [ledger.name for ledger in policy.ledgers_of(("user",))] == ["p:user"]
    assert policy.ledgers_of(("client",)) == []


# Messages that never fit

THREE, FOUR = users_at("x.org", 3), users_at("x.org", 4)


@pytest.mark.parametrize(
    ("limit", "fits", "never"),
    [
        (RecipientLimit(3), THREE, FOUR),
        (
            RecipientLimit(3),
            [*users_at("x.org", 2), "b@uwo.ca"],
            [*users_at("x.org", 3), "b@uwo.ca"],
        ),
        (
            RecipientLimit(3, count="external"),
            [*users_at("x.org", 3), "b@uwo.ca"],
            users_at("x.org", 4),
        ),
        (RecipientRateLimit("3/day"), THREE, FOUR),
        (RecipientRateLimit("3/day", scope="global"), THREE, FOUR),
        (
            RecipientRateLimit("3/day", count="external"),
            [*THREE, *users_at("uwo.ca", 9)],
            users_at("x.org", 4),
        ),
        (
            RecipientRateLimit("3/day", scope="recipient_domain"),
            [*THREE, *users_at("y.org", 3)],
            FOUR,
        ),
        (RecipientRateLimit("1/day", scope="recipient"), users_at("x.org", 9), []),
        (MessageRateLimit("1/day"), users_at("x.org", 9), []),
    ],
)
def test_a_message_that_exceeds_an_empty_count_never_fits(
    limit: Limit, fits: list[str], never: list[str]
) -> None:
    policy = campus_policy(limit)
    assert policy.plan(envelope_to(fits)).never is None
    if never:
        assert policy.plan(envelope_to(never)).never == limit


def test_the_smallest_exceeded_limit_is_named() -> None:
    large, small = RecipientRateLimit("9/day"), RecipientRateLimit("3/minute")
    assert campus_policy(large, small).plan(envelope_to(users_at("x.org", 10))).never == small
    assert campus_policy(large, small).plan(envelope_to(FOUR)).never == small


def test_a_message_that_never_fits_is_charged_if_refused_attempts_count() -> None:
    policy = campus_policy(
        MessageRateLimit("9/day", denied="count"),
        RecipientRateLimit("3/day", denied="ignore"),
        RecipientRateLimit("9/day", scope="recipient_domain", denied="count"),
    )
    plan = policy.plan(envelope_to(FOUR))
    assert costs_of_plan(plan) == [
        ("p:sender:messages", "ann@uwo.ca", 1),
        ("p:recipient_domain:recipients", "x.org", 4),
    ]


def test_a_message_refused_by_a_recipient_limit_is_not_counted() -> None:
    policy = campus_policy(RecipientLimit(3), RecipientRateLimit("2/day", denied="count"))
    plan = policy.plan(envelope_to(FOUR))
    assert (plan.never, plan.charges) == (RecipientLimit(3), [])
