"""log_events: one line for each event, with addresses escaped or hashed."""

from __future__ import annotations

import hashlib
import hmac
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from ratelimit_mail import (
    Action,
    Client,
    Decision,
    MessageRateLimit,
    Override,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.events import (
    BackToNormal,
    BurstAfterDenial,
    Event,
    ExpectedRecipientsExceeded,
    FirstDenial,
    NearLimit,
    log_events,
)
from ratelimit_mail.rules import refused_by

KEY = b"sixteen bytes or more"
LIMIT = RecipientRateLimit("50/15 minutes", count="external", on_excess="reject")
OVERRIDE = Override(
    {"recipients a day": 900}, senders=["uwo.ca"], reason="for Kim", expected_recipients=350
)
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOSTILE = '"a\r\n\x1b[31m\u202e\u2028b"@uwo.ca'


def attributes(**changes: Any) -> dict[str, Any]:
    return {
        "sender": "ann@uwo.ca",
        "subject": "ann@uwo.ca",
        "limit": LIMIT,
        "policy": "campus",
        "tier": "high-risk",
        "at": AT,
        "client": Client(address="10.1.2.3", user="ann", protocol="webmail"),
        **changes,
    }


def first_denial(**changes: Any) -> FirstDenial:
    decision = Decision(Action.REJECT, 12.5, changes.get("limit", LIMIT), "high-risk")
    return FirstDenial(**{"decision": decision, **attributes(**changes)})


def kinds(**changes: Any) -> list[Event]:
    return [
        first_denial(**changes),
        NearLimit(**attributes(**changes), used=40, share=0.8),
        BurstAfterDenial(**attributes(**changes), attempts=10, seconds=2.5),
        BackToNormal(**attributes(**changes), denials=17, since=AT),
        ExpectedRecipientsExceeded(
            **attributes(**changes), override=OVERRIDE, expected=350, recipients=352
        ),
    ]


def hashed(text: str) -> str:
    return hmac.new(KEY, text.encode(), hashlib.sha256).hexdigest()[:16]


def logged(
    caplog: pytest.LogCaptureFixture, event: Event, **options: Any
) -> tuple[str, dict[str, Any]]:
    """Log an event; return its line and its fields."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        log_events(**options)(event)
    [record] = caplog.records
    return record.getMessage(), vars(record)


def test_each_kind_has_a_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    where = (
        "limit 50 external recipients per 15 minutes per sender,"
        " policy campus, tier high-risk, client '10.1.2.3', user 'ann'"
    )
    assert [logged(caplog, event)[0] for event in kinds()] == [
        "first denial: 'ann@uwo.ca' was answered"
        f" 550 5.7.1 Recipient rate limit exceeded. Try again later.; {where}",
        f"near a limit: 'ann@uwo.ca' has used 40, 80% of it; {where}",
        f"burst after a denial: 'ann@uwo.ca' was refused 10 more times in 2.5 seconds; {where}",
        "back to normal: 'ann@uwo.ca' was refused 17 times since 2026-01-02T03:04:05+00:00;"
        f" {where}",
        "more recipients than expected: 'ann@uwo.ca' has reached 352 recipients,"
        f" 350 were expected; {where}",
    ]


def test_unknown_attributes_are_left_out_of_the_line(caplog: pytest.LogCaptureFixture) -> None:
    line, fields = logged(caplog, kinds(client=Client(), tier=None)[1])
    assert line.endswith("per sender, policy campus")
    assert fields["tier"] is fields["client_address"] is fields["client_user"] is None


def test_the_subject_is_logged_if_it_is_not_the_sender(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limit = MessageRateLimit("10/hour", scope="client")
    line, fields = logged(caplog, kinds(limit=limit, subject="10.1.2.3")[1])
    assert line.startswith("near a limit: 'ann@uwo.ca' (counted for '10.1.2.3') has used 40")
    assert fields["subject"] == "10.1.2.3"


def test_the_attributes_of_an_event_are_fields_of_the_record(
    caplog: pytest.LogCaptureFixture,
) -> None:
    common = {
        "sender": "ann@uwo.ca",
        "subject": "ann@uwo.ca",
        "limit": str(LIMIT),
        "policy": "campus",
        "tier": "high-risk",
        "at": "2026-01-02T03:04:05+00:00",
        "client_address": "10.1.2.3",
        "client_user": "ann",
        "client_protocol": "webmail",
    }
    specific: list[dict[str, object]] = [
        {
            "event": "FirstDenial",
            "action": "reject",
            "reply": "550 5.7.1 Recipient rate limit exceeded. Try again later.",
            "retry_after": 12.5,
        },
        {"event": "NearLimit", "used": 40, "share": 0.8},
        {"event": "BurstAfterDenial", "attempts": 10, "seconds": 2.5},
        {"event": "BackToNormal", "denials": 17, "since": "2026-01-02T03:04:05+00:00"},
        {"event": "ExpectedRecipientsExceeded", "expected": 350, "recipients": 352},
    ]
    for event, expected in zip(kinds(), specific, strict=True):
        _, fields = logged(caplog, event)
        assert {**common, **expected}.items() <= fields.items()


def test_only_back_to_normal_is_not_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    levels = [logged(caplog, event)[1]["levelno"] for event in kinds()]
    assert levels == [logging.WARNING] * 3 + [logging.INFO, logging.WARNING]
    levels = [logged(caplog, event, level=logging.ERROR)[1]["levelno"] for event in kinds()]
    assert levels == [logging.ERROR] * 5


def test_lines_go_to_the_chosen_logger(caplog: pytest.LogCaptureFixture) -> None:
    event = kinds()[1]
    assert logged(caplog, event)[1]["name"] == "ratelimit_mail.events"
    assert logged(caplog, event, logger="mail.alerts")[1]["name"] == "mail.alerts"
    assert logged(caplog, event, logger=logging.getLogger("x"))[1]["name"] == "x"
    adapter = logging.LoggerAdapter(logging.getLogger("y"))
    assert logged(caplog, event, logger=adapter)[1]["name"] == "y"


@pytest.mark.parametrize("address", [HOSTILE, "x" * 64 + "@" + "y" * 250, '"\ud800"@uwo.ca'])
def test_a_hostile_address_cannot_break_the_line_or_make_it_long(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    for event in kinds(sender=address, subject=address):
        line, fields = logged(caplog, event)
        assert line.isprintable()
        assert len(line) < 400
        assert fields["sender"].isprintable()
        assert len(fields["sender"]) <= 323


def test_an_address_cannot_pose_as_the_text_around_it(caplog: pytest.LogCaptureFixture) -> None:
    line, _ = logged(caplog, kinds(sender='"\' has used 1; limit none"@x.org')[1])
    assert line.startswith("near a limit: '\"\\' has used 1; limit none\"@x.org' (counted for")


def test_with_a_key_the_record_contains_no_address_and_no_login(
    caplog: pytest.LogCaptureFixture,
) -> None:
    secrets = ["ann.secret@uwo.ca", "10.99.88.77", "login-of-ann", "ann.secret@uwo.ca and bob"]
    client = Client(address=secrets[1], user=secrets[2])
    for event in kinds(sender=secrets[0], subject=secrets[3], client=client):
        line, fields = logged(caplog, event, key=KEY)
        everything = line + repr(fields)
        for secret in [*secrets, "secret", "uwo.ca", KEY.decode()]:
            assert secret not in everything
        assert fields["sender"] == hashed(secrets[0])
        assert fields["subject"] == hashed(secrets[3])
        assert fields["client_address"] == hashed(secrets[1])
        assert fields["client_user"] == hashed(secrets[2])
        for secret in secrets:
            assert hashed(secret) in line


def test_the_mailing_list_of_a_rule_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    decision = Decision(Action.REJECT, None, None, rule=refused_by("staff@lists.uwo.ca"))
    line, fields = logged(caplog, first_denial(limit=None, decision=decision), key=KEY)
    assert "staff" not in line + repr(fields)
    assert "550 5.7.2 Only named senders may post" in line
    assert fields["limit"] is None
    assert fields["retry_after"] is None


def test_each_sender_and_each_key_have_one_hash(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ann = {logged(caplog, event, key=KEY)[1]["sender"] for event in kinds()}
    bob = {logged(caplog, event, key=KEY)[1]["sender"] for event in kinds(sender="bob@uwo.ca")}
    other_key = {logged(caplog, event, key=KEY + b"!")[1]["sender"] for event in kinds()}
    assert len(ann) == len(bob) == len(other_key) == 1
    assert len(ann | bob | other_key) == 3
    assert all(len(each) == 16 and int(each, 16) for each in ann | bob)


def test_an_address_with_a_surrogate_is_hashed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    line, _ = logged(caplog, first_denial(sender='"\ud800"@uwo.ca'), key=KEY)
    assert line.isascii()


def test_the_reply_of_a_limit_on_one_message_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    line, _ = logged(caplog, first_denial(limit=RecipientLimit(100)))
    assert "was answered 550 5.5.3 Too many recipients: at most 100 in one message." in line
    assert "; limit 100 recipients per message, policy campus" in line


def test_an_unknown_kind_of_event_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    line, fields = logged(caplog, Event(**attributes()))
    assert line.startswith("Event: 'ann@uwo.ca' was seen; limit 50 external recipients")
    assert fields["event"] == "Event"


def test_neither_the_repr_nor_an_error_shows_the_key() -> None:
    assert "sixteen" not in repr(log_events(key=KEY))
    with pytest.raises(ValueError, match="5 bytes can be guessed; 16 or more") as short:
        log_events(key=b"short")
    with pytest.raises(TypeError, match="secret bytes are needed, not a str") as text:
        log_events(key="sixteen bytes or more")  # type: ignore[arg-type]
    assert "b'short'" not in str(short.value)
    assert "sixteen" not in str(text.value)


@pytest.mark.parametrize("options", [{"logger": 3}, {"level": "INFO"}, {"level": True}])
def test_an_invalid_logger_or_level_raises_an_error(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="is needed, not"):
        log_events(**options)
