"""Decision and Action: what they hold, and their SMTP replies."""

from __future__ import annotations

import attrs
import pytest

from ratelimit_mail import (
    Action,
    Decision,
    MessageRateLimit,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.exceptions import RateLimitMailError
from ratelimit_mail.limits import Limit

PER_MINUTE = MessageRateLimit("30/minute")
PER_DAY = RecipientRateLimit("10000/day")


@pytest.mark.parametrize("action", [*Action])
def test_a_decision_is_true_if_the_message_may_be_sent_now(action: Action) -> None:
    decision = Decision(action, 0.0, None if action is Action.ACCEPT else PER_DAY)
    assert decision.allowed is (action is Action.ACCEPT)
    assert bool(decision) is (action is Action.ACCEPT)


def test_there_are_four_actions() -> None:
    assert [action.name for action in Action] == ["ACCEPT", "DEFER", "REJECT", "HOLD"]


@pytest.mark.parametrize(
    ("action", "retry_after", "limit", "line"),
    [
        (Action.ACCEPT, 0.0, None, "250 2.0.0 OK"),
        (
            Action.DEFER,
            5.0,
            PER_MINUTE,
            "450 4.7.1 Message rate limit exceeded. Try again later.",
        ),
        (
            Action.DEFER,
            5.0,
            PER_DAY,
            "450 4.7.1 Recipient rate limit exceeded. Try again later.",
        ),
        (
            Action.REJECT,
            5.0,
            PER_DAY,
            "550 5.7.1 Recipient rate limit exceeded. Try again later.",
        ),
        (
            Action.REJECT,
            None,
            PER_DAY,
            "550 5.7.1 Recipient rate limit exceeded. At most 10000 recipients per day"
            " can be sent, and this message alone has more.",
        ),
        (
            Action.REJECT,
            None,
            RecipientRateLimit("1 per 2 days"),
            "550 5.7.1 Recipient rate limit exceeded. At most 1 recipient per 2 days"
            " can be sent, and this message alone has more.",
        ),
        (
            Action.REJECT,
            None,
            RecipientLimit(100),
            "550 5.5.3 Too many recipients: at most 100 in one message.",
        ),
        (
            Action.REJECT,
            None,
            RecipientLimit(100, reply="Use a mailing list."),
            "550 5.5.3 Use a mailing list.",
        ),
        (
            Action.DEFER,
            1.0,
            MessageRateLimit("1/day", reply="Slow down."),
            "450 4.7.1 Slow down.",
        ),
        (
            Action.REJECT,
            1.0,
            MessageRateLimit("1/day", reply="Slow down."),
            "550 5.7.1 Slow down.",
        ),
        (
            Action.DEFER,
            1.0,
            MessageRateLimit("1/day", reply="454 4.7.0 Throttling failure"),
            "454 4.7.0 Throttling failure",
        ),
        (  # a deferring limit that can never admit the message
            Action.REJECT,
            None,
            MessageRateLimit("1/day", reply="454 4.7.0 Throttling failure"),
            "550 5.7.1 Throttling failure",
        ),
        (
            Action.REJECT,
            None,
            RecipientLimit(9, reply="550 5.5.3 Too many."),
            "550 5.5.3 Too many.",
        ),
        (
            Action.DEFER,
            1.0,
            MessageRateLimit("1/day", reply="450 messages a day are allowed."),
            "450 4.7.1 450 messages a day are allowed.",
        ),
    ],
)
def test_the_smtp_reply_names_action_and_limit(
    action: Action, retry_after: float | None, limit: Limit | None, line: str
) -> None:
    reply = Decision(action, retry_after, limit).reply
    assert str(reply) == line
    assert f"{reply.code} {reply.status} {reply.text}" == line
    assert reply.code // 100 == int(reply.status[0])


@pytest.mark.parametrize("limit", [RecipientLimit(100), PER_MINUTE, PER_DAY])
def test_a_reply_to_a_message_that_never_fits_does_not_say_try_again(limit: Limit) -> None:
    assert "again" not in str(Decision(Action.REJECT, None, limit).reply)


def test_a_reply_fits_one_smtp_line() -> None:
    longest = RecipientRateLimit("5/day", reply="x" * 400)
    assert len(str(Decision(Action.REJECT, 1.0, longest).reply)) <= 510


def test_a_decision_is_a_value() -> None:
    one = Decision(Action.DEFER, 1.5, PER_DAY, "tier 2")
    assert one == Decision(Action.DEFER, 1.5, PER_DAY, "tier 2")
    assert one != attrs.evolve(one, tier="tier 1")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        one.action = Action.ACCEPT  # type: ignore[misc]
    assert one.action is Action.DEFER


@pytest.mark.parametrize(
    ("retry_after", "when"),
    [
        (1.5, "it fits in 1.5 seconds"),
        (1.0, "it fits in 1 second"),
        (100.0, "it fits in 100 seconds"),
        (0.001, "it fits in 0.001 seconds"),
        (None, "it can never go"),
    ],
)
def test_the_exception_has_reply_limit_and_time(retry_after: float | None, when: str) -> None:
    decision = Decision(Action.REJECT, retry_after, PER_DAY)
    error = RateLimitExceeded(decision)
    assert isinstance(error, RateLimitMailError)
    assert error.decision is decision
    assert str(error) == f"{decision.reply} ({PER_DAY}; {when})"


@pytest.mark.parametrize("seconds", [86399.999, 1234567.0, 2592000.001])
def test_the_exception_has_long_times_exactly(seconds: float) -> None:
    error = RateLimitExceeded(Decision(Action.DEFER, seconds, PER_DAY))
    assert f"it fits in {seconds:.3f}".rstrip("0").rstrip(".") in str(error)
