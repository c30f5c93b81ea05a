"""From a message and its envelope to what is stored of it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from email.message import Message
from typing import Any

from ratelimit_mail._util.text import show
from ratelimit_mail.envelope import LONGEST_ID, Envelope
from ratelimit_mail.outbox.content import message_id_of, serialise
from ratelimit_mail.outbox.records import NewMessage
from ratelimit_mail.policy import Policy

__all__ = ["draft"]


def draft(
    message: Message[Any, Any] | bytes,
    envelope: Envelope,
    policy: Policy,
    now: int,
    *,
    key: str | None = None,
    priority: int = 0,
    not_before: int | None = None,
    deadline: int | None = None,
    held_by: Sequence[str] = (),
    held_until: int | None = None,
) -> NewMessage:
    """Return what is stored of a message; times are milliseconds since the epoch.

    held_by: the lists whose moderators decide. held_until: when that ends at the latest.

    Raises ValueError for a header that contains another one, and for a key or an address that
    cannot be stored.
    """
    if key is not None:
        if not isinstance(key, str):
            raise TypeError(f"key: a string is needed, not {show(key)}")
        if not 0 < len(key) <= LONGEST_ID or not key.isprintable():
            raise ValueError(f"key: {show(key)} is not 1 to {LONGEST_ID} printable characters")
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"priority: a whole number is needed, not {show(priority)}")
    if not -1000 <= priority <= 1000:
        raise ValueError(f"priority: {show(priority)} is not a number from -1000 to 1000")
    uid = uuid.uuid4().hex
    # Addresses that a mail server let pass are checked here: they stand in SMTP commands.
    envelope = Envelope(envelope.sender, envelope.recipients, envelope.client)
    utf8 = not all(each.isascii() for each in (envelope.sender, *envelope.recipients))
    body, message_id = serialise(message, message_id_of(uid, envelope.sender), now, utf8=utf8)
    return NewMessage(
        uid=uid,
        key=key,
        envelope=envelope,
        lane=policy.sender_subject(envelope),
        priority=priority,
        put_at=now,
        next_at=now if not_before is None else max(now, not_before),
        deadline=deadline,
        expires_at=min((each for each in (deadline, held_until) if each is not None), default=None),
        message_id=message_id,
        body=body,
        held_by=held_by,
    )
