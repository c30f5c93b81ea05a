"""When all queued messages of an outbox will have gone: an estimate by the planner."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, tzinfo

import attrs

from ratelimit_mail.backends import Backend
from ratelimit_mail.cli.outbox.options import messages_of
from ratelimit_mail.cli.tables import number_of
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.outbox import Outbox, State
from ratelimit_mail.planner import CannotFinish, plan_mailing
from ratelimit_mail.policy import Policy

__all__ = ["Forecast", "forecast"]


@attrs.frozen
class Forecast:
    """When the queue will be empty, if nothing more is put and the server refuses nothing.

    queued: the messages in the queue. senders: how many have sent them.
    all_out_at: when the last one goes; None if the queue is empty, or if it is not known of any.
    unknown: the messages that will not go as things are, such as those of a blocked sender.
    """

    queued: int
    senders: int
    all_out_at: datetime | None
    unknown: int = 0

    def in_words(self, zone: tzinfo = UTC) -> str:
        """Return the forecast in one line, with its time in `zone`."""
        if not self.queued:
            return "nothing is queued"
        text = f"{number_of(self.queued, 'message')} queued by {number_of(self.senders, 'sender')}"
        if self.all_out_at is not None:
            at = self.all_out_at.astimezone(zone)
            text += f"; all out at {at:%Y-%m-%d %H:%M:%S %Z}"
        if self.unknown:
            text += f"; of {self.unknown:,}, the time is not known"
        return text


def forecast(outbox: Outbox, policy: Policy, backend: Backend | None) -> Forecast:
    """Return when the queue will be empty, after what `backend` has counted.

    Each sender is planned for itself: where senders share a limit, it can become later.
    Raises BackendError if the backend is away.
    """
    envelopes = defaultdict[str, list[Envelope]](list)
    next_at: dict[str, datetime] = {}
    queued = 0
    for message in messages_of(outbox, state=State.QUEUED):
        waiting = [each.address for each in message.recipients if each.state == State.QUEUED]
        if not waiting:  # it has just been sent
            continue
        envelope = Envelope(message.sender, waiting, message.client, size=message.size)
        sender = policy.sender_subject(envelope)
        envelopes[sender].append(envelope)
        next_at[sender] = max(message.next_at, next_at.get(sender, message.next_at))
        queued += 1
    moments = []
    unknown = 0
    for sender, messages in envelopes.items():
        try:
            plan = plan_mailing(policy, messages, backend=backend)
        except CannotFinish:
            unknown += len(messages)
        else:
            moments.append(max(plan.last, next_at[sender]))
    return Forecast(queued, len(envelopes), max(moments, default=None), unknown)
