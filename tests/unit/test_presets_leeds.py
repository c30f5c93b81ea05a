"""The presets of Leeds: each number as the University's page states it."""

from __future__ import annotations

from typing import Any

import pytest
from rlm_testkit.builders import envelope_to, limit_name, limiter_with_clock

from ratelimit_mail import Action, Envelope, RecipientLimit, presets
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.overrides import Grant, Override

MINUTE = 60
DAY = 24 * 60 * MINUTE


def numbers(limits: tuple[Limit, ...]) -> list[tuple[str | None, int, float | None]]:
    """Return name, number and window in seconds of each limit."""
    return [
        (limit.name, limit.limit, limit.window / 1000 if isinstance(limit, RateLimit) else None)
        for limit in limits
    ]


# Office 365


def test_leeds_100_recipients_a_message_30_messages_a_minute_10000_recipients_a_day() -> None:
    policy = presets.leeds_office365()
    assert numbers(policy.limits) == [
        ("recipients a message", 100, None),
        ("messages a minute", 30, MINUTE),
        ("recipients a day", 10_000, DAY),
    ]
    assert not policy.tiers


def test_leeds_counts_all_recipients_per_sender_and_defers_excess() -> None:
    for limit in presets.leeds_office365().limits:
        assert limit.count == "all"
        if isinstance(limit, RateLimit):
            assert limit.scope == ("sender",)
            assert (limit.on_excess, limit.denied) == ("defer", "ignore")


def test_leeds_does_not_send_a_message_of_more_than_100_recipients() -> None:
    limiter, _ = limiter_with_clock(presets.leeds_office365())
    assert limiter.try_acquire(envelope_to(100, "ann@leeds.ac.uk"))
    decision = limiter.try_acquire(envelope_to(101, "ann@leeds.ac.uk"))
    assert (decision.action, decision.retry_after) == (Action.REJECT, None)
    assert limit_name(decision) == "recipients a message"


def test_leeds_accepts_30_messages_in_any_minute_and_defers_the_next() -> None:
    limiter, clock = limiter_with_clock(presets.leeds_office365())
    assert all(limiter.try_acquire(envelope_to(sender="ann@leeds.ac.uk")) for _ in range(30))
    decision = limiter.try_acquire(envelope_to(sender="ann@leeds.ac.uk"))
    assert (decision.action, decision.retry_after) == (Action.DEFER, MINUTE)
    assert limit_name(decision) == "messages a minute"
    clock.advance(MINUTE)
    assert limiter.try_acquire(envelope_to(sender="ann@leeds.ac.uk"))


def test_leeds_accepts_10000_recipients_in_24_hours_and_defers_the_next() -> None:
    limiter, clock = limiter_with_clock(presets.leeds_office365())
    for _ in range(100):
        assert limiter.try_acquire(envelope_to(100, "ann@leeds.ac.uk"))
        clock.advance(MINUTE)
    decision = limiter.try_acquire(envelope_to(sender="ann@leeds.ac.uk"))
    assert (decision.action, decision.retry_after) == (Action.DEFER, DAY - 100 * MINUTE)
    assert limit_name(decision) == "recipients a day"
    assert limiter.try_acquire(envelope_to(sender="bob@leeds.ac.uk"))


def test_leeds_raises_the_100_to_500_for_one_sender_with_a_reason() -> None:
    raised = Override(
        {"recipients a message": 500},
        senders=["ann@leeds.ac.uk"],
        reason="Open day invitations",
        granted_by="IT Service Desk",
        expected_recipients=350,
    )
    limiter, _ = limiter_with_clock(presets.leeds_office365(overrides=[raised]))
    assert limiter.try_acquire(envelope_to(500, "ann@leeds.ac.uk"))
    assert limiter.try_acquire(envelope_to(501, "ann@leeds.ac.uk")).action is Action.REJECT
    assert limiter.try_acquire(envelope_to(101, "bob@leeds.ac.uk")).action is Action.REJECT


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({}, "has no reason and no expected_recipients"),
        ({"reason": " "}, "has no reason and no expected_recipients"),
        ({"reason": "Open day"}, "has no expected_recipients"),
        ({"expected_recipients": 350}, "has no reason"),
    ],
)
def test_leeds_raises_no_limit_without_a_reason_and_the_expected_number(
    fields: dict[str, Any], missing: str
) -> None:
    raised = Override({"recipients a message": 500}, senders=["ann@leeds.ac.uk"], **fields)
    with pytest.raises(ValueError, match="overrides") as error:
        presets.leeds_office365(overrides=[raised])
    assert str(error.value) == (
        f"overrides: the override of 'recipients a message' for 'ann@leeds.ac.uk' {missing};"
        " the policy 'leeds-office365' requires reason and expected_recipients"
    )


def test_leeds_accepts_different_numbers() -> None:
    policy = presets.leeds_office365(
        recipient_limit=500, message_rate="5/hour", recipient_rate="7/day"
    )
    assert [limit.limit for limit in policy.limits] == [500, 5, 7]


def test_leeds_counts_a_mailing_list_as_one_recipient_or_not_at_all() -> None:
    directory = Directory(
        lists=[
            MailingList("students@lists.leeds.ac.uk", members=["ann@leeds.ac.uk"]),
            MailingList("staff@lists.leeds.ac.uk", exempt=True),
        ]
    )
    limiter, _ = limiter_with_clock(
        presets.leeds_office365(directory=directory, recipient_rate="1/day")
    )
    for _ in range(3):
        assert limiter.try_acquire(Envelope("ann@leeds.ac.uk", ["staff@lists.leeds.ac.uk"]))
    students = Envelope("ann@leeds.ac.uk", ["students@lists.leeds.ac.uk"])
    assert limiter.try_acquire(students)
    assert limit_name(limiter.try_acquire(students)) == "recipients a day"


# The University's SMTP servers


def test_leeds_smtp_400_recipients_a_message_and_no_other_limit() -> None:
    policy = presets.leeds_smtp(grants=["ann@leeds.ac.uk"])
    assert policy.all_limits == (RecipientLimit(400, name="recipients a message"),)
    limiter, _ = limiter_with_clock(policy)
    assert all(limiter.try_acquire(envelope_to(400, "ann@leeds.ac.uk")) for _ in range(100))
    decision = limiter.try_acquire(envelope_to(401, "ann@leeds.ac.uk"))
    assert (decision.action, limit_name(decision)) == (Action.REJECT, "recipients a message")


def test_leeds_smtp_accepts_mail_of_granted_senders_only() -> None:
    whole = Grant(senders=["bob@leeds.ac.uk"], reason="Alumni news", granted_by="IT Service Desk")
    policy = presets.leeds_smtp(grants=["ann@leeds.ac.uk", whole])
    limiter, _ = limiter_with_clock(policy)
    assert limiter.try_acquire(envelope_to(sender="ann@leeds.ac.uk"))
    assert limiter.try_acquire(envelope_to(sender="bob@leeds.ac.uk"))
    decision = limiter.try_acquire(envelope_to(sender="eve@leeds.ac.uk"))
    assert (decision.action, decision.limit) == (Action.REJECT, None)
    assert decision.rule is not None
    assert decision.reply is not None
    assert decision.reply.code == 550


def test_leeds_smtp_accepts_no_mail_without_grants() -> None:
    limiter, _ = limiter_with_clock(presets.leeds_smtp())
    assert limiter.try_acquire(envelope_to(sender="ann@leeds.ac.uk")).action is Action.REJECT


@pytest.mark.parametrize("grants", ["ann@leeds.ac.uk", 3, [3], ["no address at all"]])
def test_leeds_smtp_refuses_invalid_grants(grants: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"grants|senders"):
        presets.leeds_smtp(grants=grants)
