"""Events of an outbox in the log: in words and fields, addresses hashed on request."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from ratelimit_mail import Client
from ratelimit_mail.events import (
    Delayed,
    Failed,
    Held,
    OutboxEvent,
    Released,
    Uncertain,
    log_events,
)

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
COMMON: dict[str, Any] = {
    "sender": "ann@leeds.ac.uk",
    "subject": "ann@leeds.ac.uk",
    "limit": None,
    "policy": "leeds",
    "tier": None,
    "at": MOMENT,
    "client": Client(),
    "message": 7,
    "key": "private key",
    "recipients": ("bob@example.com", "eve@example.com"),
}
EVENTS: list[tuple[OutboxEvent, int, str, dict[str, Any]]] = [
    (
        Delayed(**COMMON, expected=MOMENT),
        logging.INFO,
        "delayed: 'ann@leeds.ac.uk' message 7 waits, expected at 2026-01-02T03:04:05+00:00;",
        {"expected": MOMENT.isoformat()},
    ),
    (
        Delayed(**COMMON, expected=None),
        logging.INFO,
        "delayed: 'ann@leeds.ac.uk' message 7 waits, nobody knows how long;",
        {"expected": None},
    ),
    (
        Released(**COMMON, put=MOMENT),
        logging.INFO,
        "released: 'ann@leeds.ac.uk' message 7 of 2026-01-02T03:04:05+00:00 has been sent;",
        {"put": MOMENT.isoformat()},
    ),
    (
        Failed(**COMMON, reply="550 5.1.1 no bob@example.com"),
        logging.WARNING,
        "failed: 'ann@leeds.ac.uk' message 7 did not reach 2 recipients"
        " ('550 5.1.1 no bob@example.com');",
        {"reply": "550 5.1.1 no bob@example.com"},
    ),
    (
        Held(**COMMON, lists=("students@lists.leeds.ac.uk",)),
        logging.WARNING,
        "held: 'ann@leeds.ac.uk' message 7 waits for a moderator;",
        {"lists": ["students@lists.leeds.ac.uk"]},
    ),
    (
        Uncertain(**COMMON, reply="TimeoutError", resent=False),
        logging.WARNING,
        "uncertain: 'ann@leeds.ac.uk' message 7 may have been sent and is not sent again"
        " ('TimeoutError');",
        {"reply": "TimeoutError", "resent": False},
    ),
]


@pytest.mark.parametrize(("event", "level", "words", "fields"), EVENTS)
def test_each_event_is_one_line_with_its_fields(
    event: OutboxEvent,
    level: int,
    words: str,
    fields: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        log_events()(event)
    (record,) = caplog.records
    assert record.levelno == level
    assert record.getMessage().startswith(words)
    for name, value in {**fields, "outbox_id": 7, "recipients": 2}.items():
        assert getattr(record, name) == value
    assert "private key" not in record.getMessage()


@pytest.mark.parametrize("event", [event for event, *_ in EVENTS])
def test_with_a_key_no_line_and_no_field_has_an_address(
    event: OutboxEvent, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        log_events(key=b"sixteen secret bytes")(event)
    (record,) = caplog.records
    for value in (record.getMessage(), *record.__dict__.values()):
        for address in ("ann@leeds", "bob@example", "eve@example", "students@lists"):
            assert address not in str(value)
