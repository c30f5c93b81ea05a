"""S4, Leeds's own SMTP servers: 400 recipients a message, for addresses that were granted once."""

from __future__ import annotations

from rlm_testkit.builders import envelope_to, limiter_with_clock

from ratelimit_mail import Action, Envelope, Limiter, presets
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.overrides import Grant
from ratelimit_mail.testing import ManualClock

DAY = 24 * 60 * 60
ANN, NEWS, EVE = "ann@leeds.ac.uk", "alumni-news@leeds.ac.uk", "eve@leeds.ac.uk"
ALUMNI = Grant(
    senders=[NEWS],
    reason="Alumni news, four times a year",
    granted_by="IT Service Desk",
    expected_recipients=25_000,
)


def test_400_addresses_can_be_added_to_an_email_and_no_more() -> None:
    limiter, _ = limiter_with_clock(presets.leeds_smtp(grants=[ALUMNI]))
    assert limiter.try_acquire(envelope_to(400, NEWS))
    decision = limiter.try_acquire(envelope_to(401, NEWS))
    assert (decision.action, decision.retry_after) == (Action.REJECT, None)
    assert str(decision.reply) == "550 5.5.3 Too many recipients: at most 400 in one message."


def test_one_email_to_more_than_400_goes_by_the_mailing_list_service() -> None:
    alumni = MailingList("alumni@lists.leeds.ac.uk", members=envelope_to(1_000, NEWS).recipients)
    policy = presets.leeds_smtp(grants=[ALUMNI], directory=Directory(lists=[alumni]))
    limiter, _ = limiter_with_clock(policy)
    assert not limiter.try_acquire(envelope_to(1_000, NEWS))
    assert limiter.try_acquire(Envelope(NEWS, ["alumni@lists.leeds.ac.uk"]))


def test_more_than_10000_personalised_emails_are_sent_that_office_365_would_delay_for_a_day() -> (
    None
):
    office, clock = limiter_with_clock(presets.leeds_office365(message_rate="20000/minute"))
    assert all(office.try_acquire(envelope_to(sender=NEWS)) for _ in range(10_000))
    assert office.try_acquire(envelope_to(sender=NEWS)).retry_after == DAY

    servers = Limiter(presets.leeds_smtp(grants=[ALUMNI]), MemoryBackend(clock))
    assert all(servers.try_acquire(envelope_to(sender=NEWS)) for _ in range(12_000))


def test_30_emails_a_minute_is_not_a_limit_of_these_servers() -> None:
    limiter, _ = limiter_with_clock(presets.leeds_smtp(grants=[ALUMNI]))
    assert [limiter.reserve(envelope_to(400, NEWS)).delay for _ in range(100)] == [0.0] * 100


def test_an_address_that_was_not_granted_cannot_send_mass_mail() -> None:
    limiter, clock = limiter_with_clock(presets.leeds_smtp(grants=[ALUMNI]))
    decision = limiter.try_acquire(envelope_to(sender=EVE))
    assert (decision.action, decision.limit) == (Action.REJECT, None)
    assert str(decision.rule) == "senders must be granted first"
    assert str(decision.reply) == (
        "550 5.7.1 This sender address has not been granted. Ask your mail administrator first."
    )
    clock.advance(365 * DAY)
    assert not limiter.try_acquire(envelope_to(sender=EVE))


def test_the_request_names_the_address_and_the_purpose() -> None:
    [granted] = presets.leeds_smtp(grants=[ALUMNI]).grants or ()
    assert granted.senders == (NEWS,)
    assert granted.reason == "Alumni news, four times a year"


def test_the_request_needs_to_be_made_only_once() -> None:
    limiter, clock = limiter_with_clock(presets.leeds_smtp(grants=[NEWS]))
    for _ in range(20):  # four times a year, for five years
        assert limiter.try_acquire(envelope_to(400, NEWS))
        clock.advance(91 * DAY)


def test_the_sender_address_must_be_the_granted_one() -> None:
    limiter, _ = limiter_with_clock(presets.leeds_smtp(grants=[NEWS]))
    assert limiter.try_acquire(envelope_to(sender=NEWS))
    assert not limiter.try_acquire(envelope_to(sender=ANN))  # the same person's own address


def test_the_mass_mailing_profile_and_the_default_profile_do_not_count_together() -> None:
    clock = ManualClock()
    backend = MemoryBackend(clock)
    default = Limiter(presets.leeds_office365(), backend)
    mass_mailing = Limiter(presets.leeds_smtp(grants=[ANN]), backend)
    for _ in range(50):
        assert mass_mailing.try_acquire(envelope_to(400, ANN))
    assert [usage.used for usage in default.usage(ANN)] == [0, 0]
    assert all(default.try_acquire(envelope_to(sender=ANN)) for _ in range(30))
    assert not default.try_acquire(envelope_to(sender=ANN))
    assert mass_mailing.try_acquire(envelope_to(400, ANN))
