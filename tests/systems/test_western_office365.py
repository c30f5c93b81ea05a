"""S6 and S7, Western's Office 365: sending limits, receiving limits and proxy addresses."""

from __future__ import annotations

from typing import Any

import pytest
from rlm_testkit.builders import envelope_to, inbound_envelope, limit_name

from ratelimit_mail import Action, Client, Decision, Envelope, Limiter, Policy, presets
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.directory import Directory
from ratelimit_mail.testing import ManualClock

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
ANN, BOB = "ann@uwo.ca", "bob@uwo.ca"
ALIASES = [f"ann.{i}@uwo.ca" for i in range(200)]
DIRECTORY = Directory.from_dict({ANN: ALIASES})


def western(**options: Any) -> tuple[Limiter, ManualClock]:
    clock = ManualClock()
    policy = presets.western_office365(**options)
    return Limiter(policy, MemoryBackend(clock), sleep=clock.advance), clock


def fill(limiter: Limiter, mailbox: str = ANN, messages: int = 3_600) -> None:
    """Send as many messages as a mailbox may receive in an hour, each from another sender."""
    for i in range(messages):
        assert limiter.try_acquire(inbound_envelope(mailbox, sender=f"user{i}@example.com"))


def answers(decision: Decision) -> dict[str, Action]:
    assert decision.recipients is not None
    return {who: each.action for who, each in decision.recipients.items()}


# S6: sending


def test_10000_recipients_a_day() -> None:
    limiter, clock = western()
    assert all(limiter.try_acquire(envelope_to(500)) for _ in range(20))
    decision = limiter.try_acquire(envelope_to())
    assert (limit_name(decision), decision.retry_after) == ("recipients a day", DAY)
    clock.advance(DAY)
    assert limiter.try_acquire(envelope_to())


def test_500_recipients_a_message() -> None:
    limiter, _ = western()
    assert limiter.try_acquire(envelope_to(500))
    decision = limiter.try_acquire(envelope_to(501))
    assert (limit_name(decision), decision.action) == ("recipients a message", Action.REJECT)


def test_30_messages_a_minute_for_smtp_client_submission() -> None:
    limiter, _ = western()
    assert all(limiter.try_acquire(envelope_to(client=Client(protocol="smtp"))) for _ in range(30))
    decision = limiter.try_acquire(envelope_to(client=Client(protocol="smtp")))
    assert (limit_name(decision), decision.retry_after) == ("messages a minute", MINUTE)


@pytest.mark.parametrize("protocol", ["webmail", "api", None])
def test_30_messages_a_minute_for_smtp_client_submission_only(protocol: str | None) -> None:
    limiter, _ = western()
    assert all(
        limiter.try_acquire(envelope_to(client=Client(protocol=protocol))) for _ in range(100)
    )


def test_200_proxy_addresses_and_one_more_is_an_error() -> None:
    assert western(directory=DIRECTORY)
    one_more = Directory.from_dict({ANN: [*ALIASES, "ann.200@uwo.ca"]})
    with pytest.raises(ValueError, match=r"'ann@uwo\.ca' has 201 aliases; .* is 200"):
        western(directory=one_more)


def test_all_the_proxy_addresses_of_one_mailbox_are_one_recipient() -> None:
    limiter, _ = western(directory=DIRECTORY)
    assert limiter.try_acquire(Envelope(BOB, [ANN, *ALIASES]))
    assert [usage.used for usage in limiter.usage(BOB)] == [1]


def test_a_message_from_a_proxy_address_is_counted_for_its_owner() -> None:
    limiter, _ = western(directory=DIRECTORY)
    people = envelope_to(500).recipients
    for sender in ALIASES[:20]:
        assert limiter.try_acquire(Envelope(sender, people))
    assert limit_name(limiter.try_acquire(envelope_to())) == "recipients a day"


# S7: receiving


def test_3600_messages_an_hour_into_one_mailbox() -> None:
    limiter, clock = western()
    fill(limiter)
    decision = limiter.try_acquire(inbound_envelope(ANN))
    assert (decision.action, decision.retry_after) == (Action.DEFER, HOUR)
    assert limit_name(decision) == "messages received an hour"
    clock.advance(HOUR)
    assert limiter.try_acquire(inbound_envelope(ANN))


def test_the_3601st_is_deferred_for_that_recipient_alone() -> None:
    limiter, _ = western()
    fill(limiter)
    decision = limiter.try_acquire(inbound_envelope(ANN, BOB, "cy@uwo.ca"))
    assert decision.allowed
    assert answers(decision) == {
        ANN: Action.DEFER,
        BOB: Action.ACCEPT,
        "cy@uwo.ca": Action.ACCEPT,
    }
    assert decision.recipients is not None
    assert str(decision.recipients[ANN].reply).startswith("450 4.7.1 ")
    assert decision.recipients[ANN].retry_after == HOUR


def test_a_mailbox_at_its_receiving_limit_may_still_send() -> None:
    limiter, _ = western()
    fill(limiter)
    assert limiter.try_acquire(envelope_to(500))


def test_mail_to_a_proxy_address_arrives_in_its_owners_mailbox() -> None:
    limiter, _ = western(directory=DIRECTORY)
    fill(limiter, ALIASES[0], 1_800)
    fill(limiter, ALIASES[1], 1_800)
    assert answers(limiter.try_acquire(inbound_envelope(ANN, BOB))) == {
        ANN: Action.DEFER,
        BOB: Action.ACCEPT,
    }


def test_internal_mail_is_received_too() -> None:
    limiter, _ = western(receiving_rate="2/hour")
    assert limiter.try_acquire(Envelope(BOB, [ANN]))
    assert limiter.try_acquire(inbound_envelope(ANN))
    assert limit_name(limiter.try_acquire(Envelope(BOB, [ANN]))) == "messages received an hour"


def test_the_figures_are_those_of_the_page() -> None:
    policy: Policy = presets.western_office365()
    assert {limit.name: str(limit) for limit in policy.all_limits} == {
        "recipients a message": "500 recipients per message",
        "recipients a day": "10000 recipients per day per sender",
        "messages received an hour": "3600 received messages per hour per recipient",
        "messages a minute": "30 messages per minute per sender",
    }
    assert policy.proxy_address_limit == 200
