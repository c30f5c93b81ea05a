"""OpenMessages: messages of which a log may have more lines, joined by an id, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

import attrs

from ratelimit_mail.cli.errors import RejectedRow
from ratelimit_mail.cli.readers.base import Item, client_of, record_of
from ratelimit_mail.envelope import Client

__all__ = ["TOO_LONG", "TOO_MANY", "OpenMessage", "OpenMessages", "RecentIds", "item_of"]

MOST_OPEN: Final = 100_000
MOST_RECIPIENTS: Final = 2_000_000
"""How many messages are open at the same time, and how many recipients they have together."""

TOO_LONG: Final = "its lines are too far apart: more than 100,000 messages arrived between them"

TOO_MANY: Final = "it has too many recipients: those of all open messages are more than 4,000,000"

MOST_IDS: Final = 1_000_000


@attrs.define
class OpenMessage:
    """What the lines so far say of one message; None or empty if they do not say it.

    client: the client, where it is known as a whole. size: in bytes.
    has_arrival: whether the line was there with which it arrived: without it, the log begins later.
    has_all_recipients: whether its arrival names its recipients.
    may_be_copy: whether it came from where a content filter hands messages back.
    is_cut: whether it was finished because too many messages were open.
    is_overfull: whether recipients were left out because there were too many.
    left_out: the note with which it is left out, if it is not a message of its own.
    """

    where: str
    time: int
    sender: str | None = None
    recipients: dict[str, None] = attrs.field(factory=dict)
    address: str = ""
    user: str = ""
    protocol: str = ""
    client: Client | None = None
    size: int | None = None
    message_id: str = ""
    has_arrival: bool = False
    has_all_recipients: bool = False
    may_be_copy: bool = False
    is_cut: bool = False
    is_overfull: bool = False
    left_out: str = ""


class OpenMessages:
    """The open messages of a log by their id. The oldest are finished when there are too many.

    finish: returns what an open message comes to, if anything.
    """

    def __init__(self, finish: Callable[[str, OpenMessage], Item | None]) -> None:
        self._finish = finish
        self._open: OrderedDict[str, OpenMessage] = OrderedDict()
        self._recipients = 0
        self._cut = RecentIds()

    def get(self, key: str) -> OpenMessage | None:
        """Return the open message with an id."""
        return self._open.get(key)

    def __contains__(self, key: str) -> bool:
        return key in self._open

    def add(self, key: str, message: OpenMessage) -> Iterator[Item]:
        """Open a message; yield what is finished because of it."""
        if key in self._open:
            yield from self.close(key)
        self._open[key] = message
        self._recipients += len(message.recipients)
        while len(self._open) > MOST_OPEN or (
            self._recipients > MOST_RECIPIENTS and len(self._open) > 1
        ):
            oldest = next(iter(self._open))
            self._open[oldest].is_cut = True
            self._cut.is_new(oldest)
            yield from self.close(oldest)

    def was_cut(self, key: str) -> bool:
        """Return whether the message with an id was finished because too many were open."""
        return key in self._cut

    def add_recipient(self, message: OpenMessage, recipient: str) -> None:
        """Add a recipient to an open message; the same one again adds nothing."""
        if recipient not in message.recipients:
            if self._recipients >= 2 * MOST_RECIPIENTS:
                message.is_overfull = True
                return
            message.recipients[recipient] = None
            self._recipients += 1

    def close(self, key: str) -> Iterator[Item]:
        """Finish the message with an id, and yield what it comes to."""
        message = self._open.pop(key, None)
        if message is not None:
            self._recipients -= len(message.recipients)
            item = self._finish(key, message)
            if item is not None:
                yield item

    def close_all(self) -> Iterator[Item]:
        """Finish all messages, the oldest first."""
        for key in list(self._open):
            yield from self.close(key)


class RecentIds:
    """Ids that were seen; the oldest are forgotten when there are too many."""

    def __init__(self, most: int = MOST_IDS) -> None:
        self._most = most
        # A dict would look for its oldest key among all those that were deleted.
        self._ids: OrderedDict[int, None] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        return hash(key) in self._ids

    def is_new(self, text: str) -> bool:
        """Return whether an id was not seen, and remember it."""
        key = hash(text)
        if key in self._ids:
            return False
        if len(self._ids) >= self._most:
            self._ids.popitem(last=False)
        self._ids[key] = None
        return True


def item_of(message: OpenMessage) -> Item:
    """Return the record of a message with a sender and recipients, or why there is none."""
    if message.is_overfull:
        return RejectedRow(message.where, TOO_MANY)
    try:
        client = message.client or client_of(message.address, message.user, message.protocol)
        recipients = list(message.recipients)
        return record_of(message.time, message.sender or "", recipients, client, message.size)
    except ValueError as error:
        return RejectedRow(message.where, str(error))
