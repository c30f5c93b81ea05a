"""Presets: each number of each institution, as its page states it."""

from __future__ import annotations

from typing import Any

import pytest

from ratelimit_mail import (
    Action,
    Client,
    Decision,
    Envelope,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    presets,
)
from ratelimit_mail.charge import UNITS
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.planning import Plan

SECOND = 1_000
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE
REFUSAL = "550 5.7.1 Recipient rate limit exceeded. Try again later."
CAMPUS, ELSEWHERE = "129.100.6.7", "198.51.100.7"


def numbers(limits: tuple[Limit, ...]) -> list[tuple[str, int, int | None]]:
    """Unit, limit and window of each of `limits`."""
    return [
        (limit.unit, limit.limit, limit.window)
        if isinstance(limit, RateLimit)
        else ("recipients of one", limit.limit, None)
        for limit in limits
    ]


def plan(policy: Policy, *recipients: str, **client: Any) -> Plan:
    return policy.plan(Envelope("ann@uwo.ca", recipients or ["bob@example.com"], Client(**client)))


def windows(plan: Plan) -> list[tuple[str, int, int]]:
    """Unit, limit and window of all that a message is charged to."""
    return [
        (UNITS[count.unit], window.limit, window.length)
        for ledger, _, costs in plan.charges
        for count in ledger.counts
        if costs[count.unit]
        for window in count.windows
    ]


def costs(plan: Plan) -> list[int]:
    """What a message adds to each count."""
    return [costs[count.unit] for ledger, _, costs in plan.charges for count in ledger.counts]


def some(count: int, domain: str = "example.com") -> list[str]:
    return [f"user{i}@{domain}" for i in range(count)]


def test_each_preset_goes_by_the_name_of_its_policy() -> None:
    assert sorted(presets.PRESETS) == [
        "leeds-office365",
        "western-convergence",
        "western-office365",
    ]
    for name, preset in presets.PRESETS.items():
        assert preset().name == name


# Leeds


def test_leeds_100_recipients_a_message_30_messages_a_minute_10000_recipients_a_day() -> None:
    policy = presets.leeds_office365()
    assert numbers(policy.limits) == [
        ("recipients of one", 100, None),
        ("messages", 30, MINUTE),
        ("recipients", 10_000, DAY),
    ]
    assert not policy.tiers


def test_leeds_counts_per_sender_everybody_and_defers_what_is_over() -> None:
    for limit in presets.leeds_office365().limits:
        assert limit.count == "all"
        if isinstance(limit, RateLimit):
            assert limit.scope == ("sender",)
            assert (limit.on_excess, limit.denied) == ("defer", "ignore")


def test_leeds_does_not_send_a_message_of_more_than_100_recipients() -> None:
    policy = presets.leeds_office365()
    assert plan(policy, *some(100)).never is None
    assert plan(policy, *some(101)).never == RecipientLimit(100)


def test_leeds_raises_its_recipient_limit_to_500_on_request() -> None:
    raised = presets.leeds_office365(recipient_limit=500)
    assert plan(raised, *some(500)).never is None
    assert plan(raised, *some(501)).never == RecipientLimit(500)


def test_leeds_takes_other_rates() -> None:
    policy = presets.leeds_office365(message_rate="5/hour", recipient_rate="7/day")
    assert [limit.limit for limit in policy.limits] == [100, 5, 7]


# Western, Office 365


def test_western_500_recipients_a_message_and_10000_a_day() -> None:
    policy = presets.western_office365()
    assert numbers(policy.limits) == [
        ("recipients of one", 500, None),
        ("recipients", 10_000, DAY),
    ]
    assert plan(policy, *some(500)).never is None
    assert plan(policy, *some(501)).never == RecipientLimit(500)


@pytest.mark.parametrize(
    ("protocol", "limited"), [("smtp", True), ("webmail", False), ("api", False), (None, False)]
)
def test_western_30_messages_a_minute_for_smtp_client_submission_only(
    protocol: str | None, limited: bool
) -> None:
    found = windows(plan(presets.western_office365(), protocol=protocol))
    assert ("recipients", 10_000, DAY) in found
    assert (("messages", 30, MINUTE) in found) is limited
    assert len(found) == 1 + limited


def test_western_office365_takes_other_numbers() -> None:
    policy = presets.western_office365(
        recipient_limit=3, message_rate="4/hour", recipient_rate="5/hour"
    )
    assert [limit.limit for limit in policy.all_limits] == [3, 5, 4]


# Western, Convergence

TIER_1 = [("external recipients", 500, DAY)]
TIER_2 = [("external recipients", 50, 15 * MINUTE), ("external recipients", 500, DAY)]


@pytest.mark.parametrize(
    ("client", "tier", "limits"),
    [
        ({"address": CAMPUS}, "tier 1", TIER_1),
        ({"address": CAMPUS, "protocol": "smtp"}, "tier 1", TIER_1),
        ({"address": CAMPUS, "protocol": "api", "tags": {"library"}}, "tier 1", TIER_1),
        ({"address": "::ffff:129.100.6.7"}, "tier 1", TIER_1),
        ({"address": CAMPUS, "protocol": "webmail"}, "tier 2", TIER_2),
        ({"address": CAMPUS, "tags": {"wireless"}}, "tier 2", TIER_2),
        ({"address": CAMPUS, "tags": {"reznet"}}, "tier 2", TIER_2),
        ({"address": ELSEWHERE}, "tier 2", TIER_2),
        ({"address": "2001:db8::1"}, "tier 2", TIER_2),
        ({"address": ELSEWHERE, "protocol": "smtp"}, "tier 2", TIER_2),
        ({}, "tier 2", TIER_2),
        ({"user": "ann", "protocol": "smtp"}, "tier 2", TIER_2),
    ],
)
def test_convergence_tiers_go_by_where_the_client_is(
    client: dict[str, Any], tier: str, limits: list[tuple[str, int, int]]
) -> None:
    found = plan(presets.western_convergence(), **client)
    assert found.sheet.tier == tier
    assert windows(found) == limits


def test_convergence_has_no_other_limits() -> None:
    policy = presets.western_convergence()
    assert policy.limits == ()
    assert [tier.name for tier in policy.tiers] == ["tier 2", "tier 1"]


@pytest.mark.parametrize("recipient", ["bob@uwo.ca", "bob@UWO.CA", "bob@mail.uwo.ca"])
def test_convergence_does_not_count_internal_recipients(recipient: str) -> None:
    policy = presets.western_convergence()
    assert plan(policy, recipient).charges == []
    assert plan(policy, *some(9_999, "uwo.ca")) == plan(policy, recipient)
    assert costs(plan(policy, recipient, *some(2))) == [2]


def test_convergence_counts_a_message_to_60_outsiders_as_60() -> None:
    policy = presets.western_convergence()
    assert costs(plan(policy, *some(60), address=CAMPUS)) == [60]
    assert plan(policy, *some(50)).never is None
    assert str(plan(policy, *some(51)).never) == "50 external recipients per 15 minutes per sender"
    assert plan(policy, *some(501), address=CAMPUS).never is not None


def test_convergence_by_the_letter_counts_messages() -> None:
    policy = presets.western_convergence(unit="messages")
    found = plan(policy, *some(60))
    assert windows(found) == [
        ("external messages", 50, 15 * MINUTE),
        ("external messages", 500, DAY),
    ]
    assert costs(found) == [1]
    assert windows(plan(policy, address=CAMPUS)) == [("external messages", 500, DAY)]
    assert plan(policy, "bob@uwo.ca").charges == []


@pytest.mark.parametrize("unit", ["recipients", "messages"])
@pytest.mark.parametrize("retry_after", [60.0, None])
def test_convergence_refuses_in_the_words_of_the_source(unit: Any, retry_after: Any) -> None:
    limits = presets.western_convergence(unit=unit).all_limits
    assert len(limits) == 3
    for limit in limits:
        assert isinstance(limit, MessageRateLimit if unit == "messages" else RecipientRateLimit)
        assert limit.on_excess == "reject"
        assert str(Decision(Action.REJECT, retry_after, limit).reply) == REFUSAL


def test_convergence_counts_refused_attempts_too() -> None:
    for limit in presets.western_convergence().all_limits:
        assert isinstance(limit, RateLimit)
        assert limit.denied == "count"


def test_convergence_takes_the_networks_of_another_campus() -> None:
    policy = presets.western_convergence(campus_networks=["10.0.0.0/8", "2001:db8::/32"])
    tiers = {
        address: plan(policy, address=address).sheet.tier
        for address in ("10.1.1.1", "2001:db8::1", CAMPUS)
    }
    assert tiers == {"10.1.1.1": "tier 1", "2001:db8::1": "tier 1", CAMPUS: "tier 2"}


def test_convergence_takes_the_domains_of_another_campus() -> None:
    policy = presets.western_convergence(internal_domains=["leeds.ac.uk"])
    assert plan(policy, "bob@leeds.ac.uk").charges == []
    for outsider in ("bob@uwo.ca", "bob@mail.leeds.ac.uk"):
        assert costs(plan(policy, outsider)) == [1]


@pytest.mark.parametrize(
    ("scope", "subject"),
    [("client", CAMPUS), ("user", "ann"), (["sender", "client"], f"10:ann@uwo.ca11:{CAMPUS}")],
)
def test_convergence_counts_per_what_one_says(scope: Any, subject: str) -> None:
    policy = presets.western_convergence(scope=scope)
    charges = plan(policy, address=CAMPUS, user="ann").charges
    assert [charged for _, charged, _ in charges] == [subject]


@pytest.mark.parametrize("unit", ["bytes", "", None, "recipient"])
def test_convergence_counts_recipients_or_messages_only(unit: Any) -> None:
    with pytest.raises(ValueError, match="none of recipients, messages") as caught:
        presets.western_convergence(unit=unit)
    assert repr(unit) in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"campus_networks": ["nonsense"]}, "'nonsense'"),
        ({"campus_networks": ["129.100.0.1/16"]}, "host bits"),
        ({"campus_networks": []}, "at least one network"),
        ({"internal_domains": ["no domain"]}, "'no domain'"),
        ({"internal_domains": "uwo.ca"}, "'uwo.ca'"),
        ({"scope": "planet"}, "'planet'"),
    ],
)
def test_convergence_refuses_nonsense(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        presets.western_convergence(**arguments)
    assert named in str(caught.value)
