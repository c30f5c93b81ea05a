"""What the store of an outbox takes and returns: new messages, claims, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import attrs

from ratelimit_mail.envelope import Envelope
from ratelimit_mail.outbox.message import OutboxMessage, State

__all__ = [
    "Claim",
    "Finish",
    "NewMessage",
    "NoticeOf",
    "OutstandingCharge",
    "WaitingMessage",
    "Withdrawn",
    "Worker",
]


class Withdrawn(Exception):
    """The message was cancelled after it was claimed; nothing was sent."""


class WaitingMessage(NamedTuple):
    """A message that waits for its limits.

    recipients: how many. size: in bytes. delayed_at: when its delay was reported, in milliseconds.
    """

    id: int
    recipients: int
    size: int
    delayed_at: int | None

    def cost(self, unit: str) -> int:
        """Return what it costs a limit on messages, recipients or bytes."""
        return {"messages": 1, "bytes": self.size}.get(unit, self.recipients)


@attrs.frozen(kw_only=True)
class NewMessage:
    """A message that is to be inserted; times are milliseconds since the epoch.

    deadline: when it is too late to send it. expires_at: when it ends if it is still held.
    """

    uid: str
    key: str | None
    envelope: Envelope
    lane: str
    priority: int
    put_at: int
    next_at: int
    deadline: int | None
    expires_at: int | None
    message_id: str
    body: bytes = attrs.field(repr=False)
    held_by: Sequence[str] = ()


NoticeOf = Callable[[OutboxMessage, Callable[[], bytes]], NewMessage | None]
"""Returns the notice to the sender of a message that has ended, by its first bytes; or None."""


@attrs.frozen(kw_only=True)
class Worker:
    """A program that sends. id: the name of its lock."""

    id: str
    pid: int


@attrs.frozen(kw_only=True)
class Claim:
    """A message that a worker has claimed.

    envelope: its sender, the recipients that have not got it yet, and the id of this round.
    stale: the envelope of another message of the lane for which a place may be booked.
    """

    id: int
    uid: str
    key: str | None
    lane: str
    round: int
    envelope: Envelope
    message_id: str
    put_at: int
    first_attempt_at: int | None
    attempts: int
    delayed_at: int | None
    stale: Envelope | None = None


@attrs.frozen(kw_only=True)
class Finish:
    """What became of a round.

    state: of the message. recipients: the state and the reply of each recipient that was tried.
    next_at, attempts: of a message that is queued again. reply: of the message.
    charge: what the limiter must do next: `"settle"` or `"refund"`.
    wait_until: when the lane may go on; None for at once.
    notices: messages that are put at the same time.
    """

    state: State
    recipients: Mapping[str, tuple[State, str | None]]
    charge: str | None
    next_at: int | None = None
    attempts: int = 0
    first_attempt_at: int | None = None
    reply: str | None = None
    wait_until: int | None = None
    notices: Sequence[NewMessage] = ()


@attrs.frozen(kw_only=True)
class OutstandingCharge:
    """A round of which the limiter does not know the end. action: `"settle"` or `"refund"`."""

    id: int
    envelope: Envelope
    action: str
