"""The kinds of events are immutable values with the same common attributes."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import attrs
import pytest

from ratelimit_mail import Action, Client, Decision, MessageRateLimit
from ratelimit_mail.events import (
    BackToNormal,
    BurstAfterDenial,
    Delayed,
    Event,
    ExpectedRecipientsExceeded,
    Failed,
    FirstDenial,
    Held,
    NearLimit,
    Released,
    Uncertain,
)

LIMIT = MessageRateLimit("30/minute")
COMMON = {
    "sender": "ann@uwo.ca",
    "subject": "ann@uwo.ca",
    "limit": LIMIT,
    "policy": "campus",
    "tier": None,
    "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "client": Client(address="10.1.2.3"),
}


def near(**changes: object) -> NearLimit:
    return NearLimit(**{**COMMON, "used": 24, "share": 0.8, **changes})  # type: ignore[arg-type]


def test_an_event_is_a_value() -> None:
    assert near() == near()
    assert near() != near(used=25)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        near().used = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "kind",
    [
        FirstDenial,
        NearLimit,
        BurstAfterDenial,
        BackToNormal,
        ExpectedRecipientsExceeded,
        Delayed,
        Released,
        Failed,
        Held,
        Uncertain,
    ],
)
def test_every_kind_has_the_common_attributes(kind: type[Event]) -> None:
    names = {field.name for field in attrs.fields(kind)}
    assert issubclass(kind, Event)
    assert {"sender", "subject", "limit", "policy", "tier", "at", "client"} < names
    assert all(field.kw_only for field in attrs.fields(kind))


def test_two_kinds_with_the_same_values_differ() -> None:
    denial: Event = FirstDenial(**COMMON, decision=Decision(Action.DEFER, 1.0, LIMIT))  # type: ignore[arg-type]
    burst = BurstAfterDenial(**COMMON, attempts=10, seconds=1.5)  # type: ignore[arg-type]
    assert denial != burst


def test_the_repr_of_an_event_is_one_line_for_any_address() -> None:
    shown = repr(near(sender='"a\n\x1b[31m"@uwo.ca'))
    assert shown.isprintable()
    assert "ann@uwo.ca" in shown


@pytest.mark.parametrize("module", ["logging", "hmac", "hashlib"])
def test_importing_events_imports_neither_logging_nor_hashing(module: str) -> None:
    code = (
        "import sys, ratelimit_mail; before = set(sys.modules);"
        " import ratelimit_mail.events, ratelimit_mail.events.detector;"
        f"print({module!r} in set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
