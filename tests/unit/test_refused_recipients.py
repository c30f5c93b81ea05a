"""Recipients that the server refused: a message is charged for those that it reached."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from smtplib import SMTPRecipientsRefused
from typing import Any

import pytest
from rlm_testkit.builders import campus_policy, envelope_to, inbound_envelope
from rlm_testkit.either_limiter import EitherLimiter, sync_and_async

from ratelimit_mail import (
    Decision,
    Directory,
    Envelope,
    MessageRateLimit,
    Override,
    RecipientRateLimit,
)
from ratelimit_mail.smtp_errors import refused_recipients

BOB, EVE, KIM = "bob@example.com", "eve@example.net", "kim@uwo.ca"
ENVELOPE = envelope_to([BOB, EVE, KIM])
NO_USER = (550, b"5.1.1 no such user")

LIMITS = (
    MessageRateLimit("9/minute"),
    RecipientRateLimit("9/minute"),
    RecipientRateLimit("9/minute", count="external"),
    RecipientRateLimit("9/minute", scope="recipient_domain"),
    RecipientRateLimit("9/minute", scope="global"),
)


def reached_in_every_scope(limiter: EitherLimiter) -> dict[str, list[int]]:
    return {
        "sender": limiter.used(),
        "example.com": limiter.used("example.com", "recipient_domain"),
        "example.net": limiter.used("example.net", "recipient_domain"),
        "uwo.ca": limiter.used("uwo.ca", "recipient_domain"),
        "global": limiter.used(None, "global"),
    }


BOB_AND_KIM_REACHED = {
    "sender": [1, 2, 1],
    "example.com": [1],
    "example.net": [0],
    "uwo.ca": [1],
    "global": [2],
}
NOBODY_REACHED = {
    "sender": [0, 0, 0],
    "example.com": [0],
    "example.net": [0],
    "uwo.ca": [0],
    "global": [0],
}


def settle_after(limiter: EitherLimiter, refused: Any) -> Decision:
    decision: Decision = limiter.try_acquire(ENVELOPE)
    limiter.clock.advance(20)
    limiter.settle(decision, refused)
    return decision


@sync_and_async
@pytest.mark.parametrize("refused", [{EVE: NO_USER}, [EVE], {EVE}], ids=["dict", "list", "set"])
def test_refused_recipients_that_settle_names_are_not_charged_in_any_scope(
    mode: str, refused: Any
) -> None:
    limiter = EitherLimiter(mode, *LIMITS)
    settle_after(limiter, refused)
    assert reached_in_every_scope(limiter) == BOB_AND_KIM_REACHED
    assert limiter.resets_in() == [60, 60, 60]
    assert limiter.resets_in("example.net", "recipient_domain") == [0]


@sync_and_async
def test_an_exception_that_names_some_recipients_leaves_the_others_charged(mode: str) -> None:
    limiter = EitherLimiter(mode, *LIMITS)
    with pytest.raises(SMTPRecipientsRefused), limiter.sending(ENVELOPE):
        raise SMTPRecipientsRefused({EVE: NO_USER})
    assert reached_in_every_scope(limiter) == BOB_AND_KIM_REACHED


@sync_and_async
def test_an_exception_that_names_all_recipients_is_a_refund(mode: str) -> None:
    limiter = EitherLimiter(mode, *LIMITS)
    refused = dict.fromkeys(ENVELOPE.recipients, NO_USER)
    with pytest.raises(SMTPRecipientsRefused), limiter.sending(ENVELOPE):
        raise SMTPRecipientsRefused(refused)
    assert reached_in_every_scope(limiter) == NOBODY_REACHED


@sync_and_async
def test_after_421_nothing_was_sent_even_to_recipients_that_were_not_asked(mode: str) -> None:
    limiter = EitherLimiter(mode, *LIMITS)
    with pytest.raises(SMTPRecipientsRefused), limiter.sending(ENVELOPE):
        raise SMTPRecipientsRefused({EVE: (421, b"4.3.2 shutting down")})
    assert reached_in_every_scope(limiter) == NOBODY_REACHED


@sync_and_async
def test_the_dict_that_a_decorated_function_returns_is_respected(mode: str) -> None:
    limiter = EitherLimiter(mode, *LIMITS)
    assert limiter.send(lambda envelope: {EVE: NO_USER}, ENVELOPE) == {EVE: NO_USER}
    assert reached_in_every_scope(limiter) == BOB_AND_KIM_REACHED


@sync_and_async
def test_a_decorated_function_that_raises_for_some_recipients_is_charged_for_the_others(
    mode: str,
) -> None:
    limiter = EitherLimiter(mode, *LIMITS)

    def send(envelope: Envelope) -> None:
        raise SMTPRecipientsRefused({EVE: NO_USER})

    with pytest.raises(SMTPRecipientsRefused):
        limiter.send(send, ENVELOPE)
    assert reached_in_every_scope(limiter) == BOB_AND_KIM_REACHED


@sync_and_async
@pytest.mark.parametrize(
    "result",
    [None, {}, ({}, "queued"), {EVE: "sent"}, {"status": (1, 2)}, [EVE], {1: NO_USER}, (EVE, BOB)],
    ids=repr,
)
def test_any_other_result_of_a_decorated_function_names_nobody(mode: str, result: object) -> None:
    limiter = EitherLimiter(mode, *LIMITS)
    assert limiter.send(lambda envelope: result, ENVELOPE) == result
    assert limiter.used() == [1, 3, 2]


@sync_and_async
@pytest.mark.parametrize("spelling", ["eve@EXAMPLE.NET", '"eve"@example.net', "<eve@example.net>"])
def test_a_refused_recipient_is_recognised_however_it_is_spelled(mode: str, spelling: str) -> None:
    limiter = EitherLimiter(mode, *LIMITS)
    settle_after(limiter, [spelling])
    assert reached_in_every_scope(limiter) == BOB_AND_KIM_REACHED
    limiter = EitherLimiter(mode, *LIMITS)
    limiter.send(lambda envelope: {spelling: NO_USER}, ENVELOPE)
    assert reached_in_every_scope(limiter) == BOB_AND_KIM_REACHED


@sync_and_async
def test_an_address_that_is_not_a_recipient_changes_nothing(mode: str) -> None:
    limiter = EitherLimiter(mode, *LIMITS)
    settle_after(limiter, ["nobody@example.org", "not an address"])
    assert limiter.used() == [1, 3, 2]


@sync_and_async
def test_the_charge_of_those_reached_can_be_settled_and_refunded_later(mode: str) -> None:
    limiter = EitherLimiter(mode, *LIMITS)
    decision = settle_after(limiter, [EVE])
    limiter.clock.advance(20)
    limiter.settle(decision, [EVE])
    assert reached_in_every_scope(limiter) == BOB_AND_KIM_REACHED
    assert limiter.resets_in() == [60, 60, 60]
    limiter.refund(decision)
    assert reached_in_every_scope(limiter) == NOBODY_REACHED


@sync_and_async
def test_only_internal_recipients_reached_cost_an_external_limit_nothing(mode: str) -> None:
    limiter = EitherLimiter(mode, RecipientRateLimit("9/minute", count="external"))
    settle_after(limiter, [BOB, EVE])
    assert limiter.used() == [0]


@sync_and_async
def test_shadow_limits_are_charged_for_those_reached_too(mode: str) -> None:
    limiter = EitherLimiter(
        mode, RecipientRateLimit("9/minute"), RecipientRateLimit("4/minute", enforce=False)
    )
    settle_after(limiter, [EVE])
    assert limiter.try_acquire(envelope_to([BOB, EVE])).shadow.allowed
    assert not limiter.try_acquire(envelope_to([BOB])).shadow.allowed


@sync_and_async
def test_addresses_that_only_a_server_lets_pass_can_be_refused(mode: str) -> None:
    limiter = EitherLimiter(mode, RecipientRateLimit("9/minute"))
    envelope = Envelope.from_smtp("ann..x@uwo.ca", ["postmaster", "bob smith@example.com", EVE])
    decision = limiter.try_acquire(envelope)
    limiter.settle(decision, refused=["postmaster"])
    assert limiter.used("ann..x@uwo.ca") == [2]


@sync_and_async
def test_limits_that_no_longer_admit_the_message_charge_all_of_it(mode: str) -> None:
    # Overrides that begin in the meantime: what is left of the message is above the new limit.
    start = datetime(2026, 1, 1, tzinfo=UTC)
    limit = RecipientRateLimit("9/minute", name="a minute")
    override = Override(senders=["ann@uwo.ca"], limits={"a minute": 1}, starts=start)
    limiter = EitherLimiter(mode, policy=campus_policy(limit, overrides=[override]))
    limiter.clock.set(int(start.timestamp() * 1000) - 10_000)
    settle_after(limiter, [EVE])
    assert limiter.used() == [3]


@sync_and_async
@pytest.mark.parametrize("refused", ["eve@example.net", b"eve@example.net", 5, [5]])
def test_what_is_not_a_list_of_addresses_is_an_error_that_shows_it(mode: str, refused: Any) -> None:
    limiter = EitherLimiter(mode, *LIMITS)
    decision = limiter.try_acquire(ENVELOPE)
    with pytest.raises(TypeError, match=r"refused: .*(eve@example\.net|5)"):
        limiter.settle(decision, refused)
    assert limiter.used() == [1, 3, 2]


# Mail that arrives, with an answer for each recipient.

ALIASES = {"l.lee@uwo.ca": "lee@uwo.ca"}
INBOUND = MessageRateLimit("9/minute", direction="inbound")


def arriving(limiter: EitherLimiter, refused: list[str]) -> tuple[list[int], list[int]]:
    """Settle a message to two mailboxes, one of them named twice; return what they have used."""
    decision = limiter.try_acquire(inbound_envelope(KIM, "lee@uwo.ca", "l.lee@uwo.ca"))
    limiter.clock.advance(20)
    limiter.settle(decision, refused)
    return limiter.used(KIM, "recipient"), limiter.used("lee@uwo.ca", "recipient")


@sync_and_async
@pytest.mark.parametrize(
    ("refused", "used"),
    [
        ([], ([1], [1])),
        ([KIM], ([0], [1])),
        (["lee@uwo.ca"], ([1], [1])),
        (["l.lee@uwo.ca"], ([1], [1])),
        (["lee@uwo.ca", "l.lee@uwo.ca"], ([1], [0])),
        ([KIM, "lee@uwo.ca", "l.lee@uwo.ca"], ([0], [0])),
    ],
)
def test_a_mailbox_is_charged_if_any_of_its_addresses_was_reached(
    mode: str, refused: list[str], used: tuple[list[int], list[int]]
) -> None:
    policy = campus_policy(INBOUND, partial=True, directory=Directory(aliases=ALIASES))
    assert arriving(EitherLimiter(mode, policy=policy), refused) == used


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ({EVE: NO_USER}, [EVE]),
        (({EVE: NO_USER}, "queued"), [EVE]),
        (SMTPRecipientsRefused({EVE: NO_USER}), [EVE]),
        (SMTPRecipientsRefused({EVE: (421, b"bye")}), [BOB, EVE, KIM]),
        (ValueError(EVE), []),
        (EVE, []),
        (None, []),
    ],
    ids=repr,
)
def test_what_an_outcome_says_of_the_recipients(outcome: object, expected: list[str]) -> None:
    assert refused_recipients(outcome, ENVELOPE.recipients) == set(expected)


def test_an_exception_of_another_library_with_recipients_names_nobody() -> None:
    class Error(Exception):
        recipients: Mapping[str, str] | list[object] = {EVE: "no"}  # noqa: RUF012

    assert refused_recipients(Error(), ENVELOPE.recipients) == set()
    Error.recipients = [object()]
    assert refused_recipients(Error(), ENVELOPE.recipients) == set()
