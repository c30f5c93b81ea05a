"""The presets of providers: each number as its page, or Western's page, states it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rlm_testkit.builders import limiter_with_clock

from ratelimit_mail import Action, Client, Decision, Envelope, Limiter, Policy, presets
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.overrides import Override

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def example_envelope(
    count: int = 1, sender: str = "ann@example.edu", domain: str = "example.com", **client: Any
) -> Envelope:
    return Envelope(sender, [f"user{i}@{domain}" for i in range(count)], Client(**client))


def refusal(decision: Decision) -> tuple[str | None, Action, float | None]:
    """Return the name of the limit that refused, the action, and the wait."""
    assert decision.limit is not None
    return decision.limit.name, decision.action, decision.retry_after


# Providers that Western lists


@pytest.mark.parametrize("preset", [presets.comcast, presets.earthlink, presets.roadrunner])
def test_western_lists_1000_messages_a_day_for_isps(preset: Callable[[], Policy]) -> None:
    limiter, _ = limiter_with_clock(preset())
    assert all(limiter.try_acquire(example_envelope(3)) for _ in range(1_000))
    assert refusal(limiter.try_acquire(example_envelope())) == ("messages a day", Action.DEFER, DAY)


@pytest.mark.parametrize("preset", [presets.gmail_webmail, presets.hotmail, presets.yahoo])
def test_western_lists_100_to_500_recipients_a_day_for_webmail(
    preset: Callable[..., Policy],
) -> None:
    limiter, _ = limiter_with_clock(preset())
    assert limiter.try_acquire(example_envelope(500))
    assert refusal(limiter.try_acquire(example_envelope())) == (
        "recipients a day",
        Action.DEFER,
        DAY,
    )
    lower, _ = limiter_with_clock(preset(recipient_rate="100/day"))
    assert lower.try_acquire(example_envelope(100))
    assert not lower.try_acquire(example_envelope())


# Exchange Online


def test_exchange_online_500_recipients_a_message_and_10000_in_24_hours() -> None:
    limiter, clock = limiter_with_clock(presets.exchange_online(internal_domains=["example.edu"]))
    assert refusal(limiter.try_acquire(example_envelope(501)))[::2] == (
        "recipients a message",
        None,
    )
    assert all(limiter.try_acquire(example_envelope(500)) for _ in range(20))
    clock.advance(HOUR)
    decision = limiter.try_acquire(example_envelope())
    assert refusal(decision) == ("recipients a day", Action.DEFER, DAY - HOUR)


def test_exchange_online_30_messages_a_minute() -> None:
    limiter, _ = limiter_with_clock(presets.exchange_online(internal_domains=["example.edu"]))
    assert all(limiter.try_acquire(example_envelope()) for _ in range(30))
    assert refusal(limiter.try_acquire(example_envelope())) == (
        "messages a minute",
        Action.DEFER,
        MINUTE,
    )


def test_exchange_online_recipients_a_message_can_be_set_from_1_to_1000() -> None:
    raised = Override({"recipients a message": 1_000}, senders=["ann@example.edu"])
    for policy in (
        presets.exchange_online(recipient_limit=1_000),
        presets.exchange_online(overrides=[raised]),
    ):
        limiter, _ = limiter_with_clock(policy)
        assert limiter.try_acquire(example_envelope(1_000))
    assert presets.exchange_online(recipient_limit=1).limits[0].limit == 1
    more = Override({"recipients a message": 1_001}, senders=["ann@example.edu"])
    for wrong in ({"recipient_limit": 1_001}, {"overrides": [more]}):
        arguments: dict[str, Any] = wrong
        with pytest.raises(ValueError, match="1 to 1000, not 1001"):
            presets.exchange_online(**arguments)


def test_exchange_online_1188_messages_an_hour_into_one_mailbox_from_one_sender() -> None:
    limiter, _ = limiter_with_clock(presets.exchange_online(internal_domains=["example.edu"]))
    inbound = Envelope("eve@example.com", ["ann@example.edu"], direction="inbound")
    assert all(limiter.try_acquire(inbound) for _ in range(1_188))
    decision = limiter.try_acquire(inbound)
    assert refusal(decision) == (
        "messages received an hour from one sender",
        Action.DEFER,
        HOUR,
    )
    assert limiter.try_acquire(
        Envelope("bob@example.com", ["ann@example.edu"], direction="inbound")
    )


def test_exchange_online_3600_messages_an_hour_into_one_mailbox() -> None:
    limiter, _ = limiter_with_clock(presets.exchange_online(internal_domains=["example.edu"]))
    for i in range(3_600):
        sender = f"user{i % 4}@example.com"
        assert limiter.try_acquire(Envelope(sender, ["ann@example.edu"], direction="inbound"))
    both = Envelope("eve@example.com", ["ann@example.edu", "bob@example.edu"], direction="inbound")
    decision = limiter.try_acquire(both)
    assert decision.recipients is not None
    assert refusal(decision.recipients["ann@example.edu"]) == (
        "messages received an hour",
        Action.DEFER,
        HOUR,
    )
    assert decision.recipients["bob@example.edu"].allowed


@pytest.mark.parametrize(
    ("licences", "recipients"),
    [
        (1, 10_000),
        (2, 10_312),
        (10, 12_006),
        (25, 14_259),
        (100, 22_059),
        (1_000, 72_446),
        (10_000, 324_979),
        (100_000, 1_590_639),
    ],
)
def test_exchange_online_external_recipients_grow_with_the_licences(
    licences: int, recipients: int
) -> None:
    assert presets.tenant_external_recipients(licences) == recipients
    limit = presets.exchange_online(licences=licences).limits[-1]
    assert isinstance(limit, RateLimit)
    assert (limit.limit, limit.window, limit.count) == (recipients, DAY * 1000, "external")
    assert limit.scope == ("global",)


def test_exchange_online_counts_the_external_recipients_of_all_senders_together() -> None:
    policy = presets.exchange_online(licences=1, internal_domains=["example.edu"])
    limiter, _ = limiter_with_clock(policy)
    for i in range(20):
        assert limiter.try_acquire(example_envelope(500, sender=f"user{i % 2}@example.edu"))
    late = example_envelope(sender="bob@example.edu")
    name = "external recipients of the tenant a day"
    assert refusal(limiter.try_acquire(late)) == (name, Action.REJECT, DAY)
    assert limiter.try_acquire(example_envelope(sender="bob@example.edu", domain="example.edu"))


def test_exchange_online_has_no_tenant_limit_or_the_one_that_is_passed() -> None:
    assert all(limit.count == "all" for limit in presets.exchange_online().limits)
    trial = presets.exchange_online(external_recipient_rate="5000/day")
    assert trial.limits[-1].limit == 5_000


@pytest.mark.parametrize("licences", [0, -1, 10**400, 2.5, "100", True])
def test_exchange_online_refuses_an_invalid_number_of_licences(licences: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="licences"):
        presets.exchange_online(licences=licences)


def test_exchange_online_refuses_two_limits_for_one_tenant() -> None:
    for two in (
        {"licences": 5, "external_recipient_rate": "5000/day"},
        {"licences": 5, "trial": True},
        {"external_recipient_rate": "5000/day", "trial": True},
    ):
        arguments: dict[str, Any] = two
        with pytest.raises(ValueError, match="one of the three"):
            presets.exchange_online(**arguments)


def test_exchange_online_a_trial_tenant_has_5000_and_a_reply_of_its_own() -> None:
    limiter, _ = limiter_with_clock(presets.exchange_online(trial=True))
    assert all(limiter.try_acquire(example_envelope(500)) for _ in range(10))
    refused = limiter.try_acquire(example_envelope(sender="kim@example.com"))
    assert (refused.reply.code, refused.reply.status) == (550, "5.7.232")
    assert refused.retry_after == DAY


@pytest.mark.parametrize(
    ("name", "hourly", "daily"), [("standard", 500, 1_000), ("strict", 400, 800)]
)
def test_exchange_online_the_outbound_spam_policy_is_an_option(
    name: Any, hourly: int, daily: int
) -> None:
    policy = presets.exchange_online(outbound_spam_policy=name, internal_domains=["example.edu"])
    limiter, clock = limiter_with_clock(policy)
    assert limiter.try_acquire(example_envelope(hourly))
    decision = limiter.try_acquire(example_envelope())
    assert refusal(decision) == ("external recipients an hour", Action.DEFER, HOUR)
    assert limiter.try_acquire(example_envelope(daily - hourly, domain="example.edu"))
    clock.advance(HOUR)
    decision = limiter.try_acquire(example_envelope(domain="example.edu"))
    name = "recipients a day of the outbound spam policy"
    assert refusal(decision) == (name, Action.DEFER, DAY - HOUR)


def test_exchange_online_has_no_outbound_spam_policy_by_default_and_no_other_one() -> None:
    assert (
        presets.exchange_online().limits
        == presets.exchange_online(outbound_spam_policy=None).limits
    )
    wrong: Any = "lenient"
    with pytest.raises(ValueError, match="'lenient' is not one of standard, strict"):
        presets.exchange_online(outbound_spam_policy=wrong)


def test_exchange_online_2000_external_recipients_a_day_were_cancelled() -> None:
    limiter, clock = limiter_with_clock(presets.exchange_online(internal_domains=["example.edu"]))
    for _ in range(5):
        assert limiter.try_acquire(example_envelope(500))
        clock.advance(MINUTE)


def test_exchange_online_100_external_recipients_a_day_from_onmicrosoft() -> None:
    policy = presets.exchange_online(
        internal_domains=["contoso.com", "contoso.onmicrosoft.com"], licences=1
    )
    limiter, _ = limiter_with_clock(policy)
    for sender in ("ann@contoso.onmicrosoft.com", "bob@contoso.onmicrosoft.com"):
        assert limiter.try_acquire(example_envelope(50, sender=sender))
    refused = limiter.try_acquire(example_envelope(sender="kim@contoso.onmicrosoft.com"))
    assert refusal(refused)[:2] == (
        "external recipients of onmicrosoft.com a day",
        Action.REJECT,
    )
    assert (refused.reply.code, refused.reply.status) == (550, "5.7.236")
    assert limiter.try_acquire(example_envelope(500, sender="ann@contoso.com"))
    assert Policy.loads(policy.dump()) == policy


def test_exchange_online_has_no_limit_of_onmicrosoft_without_such_a_domain() -> None:
    names = {limit.name for limit in presets.exchange_online(internal_domains=["a.com"]).limits}
    assert "external recipients of onmicrosoft.com a day" not in names


def test_exchange_online_rejects_what_is_above_the_limit_of_the_tenant() -> None:
    limiter, _ = limiter_with_clock(presets.exchange_online(external_recipient_rate="5/day"))
    assert limiter.try_acquire(example_envelope(5))
    refused = limiter.try_acquire(example_envelope(sender="kim@example.com"))
    assert (refused.action, refused.reply.status) == (Action.REJECT, "5.7.233")
    assert refused.retry_after == DAY


# Google


def workspace() -> Limiter:
    return limiter_with_clock(presets.google_workspace(internal_domains=["example.edu"]))[0]


def test_google_workspace_2000_recipients_a_message_of_which_500_external() -> None:
    limiter = workspace()
    insiders = example_envelope(1_500, domain="example.edu").recipients
    for outsiders, fits in ((500, True), (501, False)):
        both = Envelope("ann@example.edu", [*insiders, *example_envelope(outsiders).recipients])
        assert limiter.check(both).allowed is fits
    assert limiter.check(example_envelope(2_000, domain="example.edu"))
    assert not limiter.check(example_envelope(2_001, domain="example.edu"))


@pytest.mark.parametrize(
    ("protocol", "most"), [("smtp", 100), ("api", 100), ("webmail", 500), (None, 500)]
)
def test_google_workspace_100_recipients_a_message_through_smtp_or_the_api(
    protocol: str | None, most: int
) -> None:
    limiter = workspace()
    assert limiter.check(example_envelope(most, protocol=protocol))
    assert not limiter.check(example_envelope(most + 1, protocol=protocol))


def test_google_workspace_2000_messages_a_day() -> None:
    limiter = workspace()
    assert all(limiter.try_acquire(example_envelope()) for _ in range(2_000))
    assert refusal(limiter.try_acquire(example_envelope())) == ("messages a day", Action.DEFER, DAY)


def test_google_workspace_10000_recipients_a_day_of_which_3000_external() -> None:
    limiter = workspace()
    assert all(limiter.try_acquire(example_envelope(500)) for _ in range(6))
    name = "external recipients a day"
    assert refusal(limiter.try_acquire(example_envelope())) == (name, Action.DEFER, DAY)
    for count in (2_000, 2_000, 2_000, 1_000):
        assert limiter.try_acquire(example_envelope(count, domain="example.edu"))
    insider = example_envelope(domain="example.edu")
    assert refusal(limiter.try_acquire(insider)) == ("recipients a day", Action.DEFER, DAY)


def test_gmail_500_messages_a_day_and_500_recipients_a_message() -> None:
    limiter, _ = limiter_with_clock(presets.gmail())
    assert not limiter.try_acquire(example_envelope(501))
    assert all(limiter.try_acquire(example_envelope(500)) for _ in range(500))
    assert refusal(limiter.try_acquire(example_envelope())) == ("messages a day", Action.DEFER, DAY)


# Amazon SES


def test_amazon_ses_sandbox_200_a_day_for_all_senders_together() -> None:
    limiter, clock = limiter_with_clock(presets.amazon_ses())
    for number in range(200):
        assert limiter.try_acquire(example_envelope(sender=f"user{number}@example.com"))
        clock.advance(1)
    name, action, wait = refusal(limiter.try_acquire(example_envelope()))
    assert (name, action, wait) == ("recipients a day", Action.DEFER, DAY - 200)


def test_amazon_ses_holds_the_rate_for_as_many_seconds_as_a_message_has_recipients() -> None:
    limiter, clock = limiter_with_clock(presets.amazon_ses())
    assert limiter.try_acquire(example_envelope(5))
    refused = limiter.try_acquire(example_envelope())
    assert refused.retry_after == 5.0
    assert str(refused.reply) == "454 4.7.0 Throttling failure: Maximum sending rate exceeded"
    clock.advance(5)
    assert limiter.try_acquire(example_envelope())


def test_amazon_ses_counts_a_message_that_holds_the_rate_at_once_towards_the_quota() -> None:
    limiter, clock = limiter_with_clock(presets.amazon_ses(sending_quota="60/day"))
    assert limiter.try_acquire(example_envelope(40))
    clock.advance(DAY - 10)
    decision = limiter.try_acquire(example_envelope(30))
    assert refusal(decision) == ("recipients a day", Action.DEFER, 10)
    clock.advance(10)
    assert limiter.try_acquire(example_envelope(30))


def test_amazon_ses_takes_a_message_above_a_small_quota_and_then_nothing_for_days() -> None:
    limiter, clock = limiter_with_clock(presets.amazon_ses(sending_quota="10/day"))
    assert limiter.try_acquire(example_envelope(30))
    clock.advance(3 * 24 * 3600 - 1)
    assert str(limiter.try_acquire(example_envelope()).reply).startswith("454 4.7.0 Throttling")
    clock.advance(1)
    assert limiter.try_acquire(example_envelope())


def test_amazon_ses_50_recipients_a_message() -> None:
    policy = presets.amazon_ses(sending_rate="100/second", sending_quota="50000/day")
    limiter, _ = limiter_with_clock(policy)
    assert refusal(limiter.check(example_envelope(51)))[::2] == ("recipients a message", None)
    assert limiter.try_acquire(example_envelope(50))
    assert limiter.try_acquire(example_envelope(50))
    assert refusal(limiter.check(example_envelope())) == ("recipients a second", Action.DEFER, 1)


def test_amazon_ses_has_no_quota_if_the_account_has_none() -> None:
    names = [limit.name for limit in presets.amazon_ses(sending_quota=None).limits]
    assert names == ["recipients a message", "recipients a second"]


# Services that send mail for programs


@pytest.mark.parametrize(
    ("policy", "most", "wait"),
    [
        (presets.brevo(), 300, DAY),
        (presets.resend(), 100, DAY),
        (presets.sendgrid(sending_quota="100/day"), 100, DAY),
    ],
)
def test_a_free_plan_counts_the_recipients_of_all_senders_together(
    policy: Policy, most: int, wait: int
) -> None:
    limiter, _ = limiter_with_clock(policy)
    assert limiter.try_acquire(example_envelope(most - 1))
    assert limiter.try_acquire(example_envelope(sender="bob@example.edu"))
    decision = limiter.try_acquire(example_envelope(sender="kim@example.edu"))
    assert refusal(decision) == ("recipients a day", Action.DEFER, wait)


def test_sendgrid_begins_anew_at_midnight_utc() -> None:
    limiter, clock = limiter_with_clock(presets.sendgrid(), now=18 * HOUR * 1000)
    assert limiter.try_acquire(example_envelope(100))
    decision = limiter.try_acquire(example_envelope())
    assert refusal(decision) == ("recipients a day", Action.DEFER, 6 * HOUR)
    clock.advance(6 * HOUR)
    assert limiter.try_acquire(example_envelope(100))


def test_a_paid_plan_has_no_daily_quota() -> None:
    names = {
        limit.name
        for policy in (
            presets.brevo(sending_quota=None),
            presets.resend(sending_quota=None, monthly_quota=None),
            presets.sendgrid(sending_quota=None),
        )
        for limit in policy.limits
    }
    assert names == {"messages a second", "recipients a message"}


def test_resend_3000_recipients_in_any_month() -> None:
    limiter, clock = limiter_with_clock(presets.resend())
    for _ in range(30):
        assert limiter.try_acquire(example_envelope(100))
        clock.advance(DAY)
    decision = limiter.try_acquire(example_envelope())
    assert refusal(decision) == ("recipients a month", Action.DEFER, DAY)


def test_azure_30_messages_a_minute_and_100_an_hour_for_all_senders() -> None:
    limiter, clock = limiter_with_clock(presets.azure_communication_services())
    for _ in range(3):
        for number in range(30):
            assert limiter.try_acquire(example_envelope(50, sender=f"user{number}@example.com"))
        decision = limiter.try_acquire(example_envelope())
        assert refusal(decision) == ("messages a minute", Action.DEFER, MINUTE)
        clock.advance(MINUTE)
    assert all(limiter.try_acquire(example_envelope()) for _ in range(10))
    decision = limiter.try_acquire(example_envelope())
    assert refusal(decision) == ("messages an hour", Action.DEFER, HOUR - 3 * MINUTE)


# Providers of mailboxes


def test_ionos_refuses_with_its_own_reply() -> None:
    limiter, _ = limiter_with_clock(presets.ionos(message_rate="50/hour"))
    assert all(limiter.try_acquire(example_envelope(9)) for _ in range(50))
    decision = limiter.try_acquire(example_envelope())
    assert refusal(decision) == ("messages an hour", Action.DEFER, HOUR)
    assert str(decision.reply) == "450 4.7.0 Mail send limit exceeded."


def test_sendgrid_refuses_with_its_own_reply() -> None:
    limiter, _ = limiter_with_clock(presets.sendgrid())
    assert limiter.try_acquire(example_envelope(100))
    reply = limiter.try_acquire(example_envelope()).reply
    assert str(reply) == "451 4.7.0 Maximum credits exceeded"


def test_icloud_500_recipients_a_message_and_1000_a_day() -> None:
    limiter, _ = limiter_with_clock(presets.icloud_mail())
    assert refusal(limiter.check(example_envelope(501)))[::2] == ("recipients a message", None)
    assert all(limiter.try_acquire(example_envelope(500)) for _ in range(2))
    decision = limiter.try_acquire(example_envelope())
    assert refusal(decision) == ("recipients a day", Action.DEFER, DAY)


@pytest.mark.parametrize(
    ("preset", "most"), [(presets.zoho_mail, 150), (presets.zoho_mail_free, 100)]
)
def test_zoho_counts_external_recipients_and_messages_to_them(
    preset: Callable[..., Policy], most: int
) -> None:
    limiter, _ = limiter_with_clock(
        preset(message_rate="50/hour", internal_domains=["example.edu"])
    )
    assert not limiter.check(example_envelope(most + 1))
    assert all(limiter.try_acquire(example_envelope(most)) for _ in range(50))
    decision = limiter.try_acquire(example_envelope())
    assert refusal(decision) == ("external messages an hour", Action.DEFER, HOUR)
    assert limiter.try_acquire(example_envelope(200, domain="example.edu"))


def test_proton_has_the_rates_of_the_account_if_they_are_set() -> None:
    assert [limit.name for limit in presets.proton_mail().limits] == ["recipients a message"]
    policy = presets.proton_mail(hourly_rate="300/hour", daily_rate="1000/day")
    limiter, _ = limiter_with_clock(policy)
    assert all(limiter.try_acquire(example_envelope(100)) for _ in range(3))
    decision = limiter.try_acquire(example_envelope())
    assert refusal(decision) == ("recipients an hour", Action.DEFER, HOUR)
