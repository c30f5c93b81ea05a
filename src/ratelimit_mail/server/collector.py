"""The recipients of messages whose transactions are under way, collected at RCPT.

Postfix names the recipients one by one at RCPT, and at DATA and END-OF-MESSAGE only how many it
accepted. Both carry the same `instance`, over one connection or over several. What is forgotten too
early (the bounds are reached, or the server was started in the middle of a transaction) is missed
at the end of the message, because the number of recipients is then too small; such a message must
come again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import attrs

__all__ = ["Collector", "Transaction"]

MOST_TRANSACTIONS: Final = 20_000
MOST_RECIPIENTS: Final = 10_000
"""Of one message; `smtpd_recipient_limit` of Postfix is 1,000."""
MOST_IN_ALL: Final = 500_000
"""Recipients of all transactions: at most about 150 MB, if each address has 200 characters."""
LONGEST_ADDRESSES: Final = 64_000_000
"""Characters of all addresses."""

FORGET_SECONDS: Final = 3600.0
"""How long a transaction may be silent; a long message over a slow line is silent, too."""


@attrs.define
class Transaction:
    """What was seen of one message.

    recipients: as they were written, each once, in their order. requests: how many requests at
        RCPT there were. characters: of the recipients together. is_overfull: whether recipients
        were left out. connection: the one that named the last recipient, at `seen_at`, in seconds.
    """

    recipients: dict[str, None] = attrs.field(factory=dict)
    requests: int = 0
    characters: int = 0
    is_overfull: bool = False
    connection: object = None
    seen_at: float = 0.0


class Collector:
    """Transactions by their instance, the one that was silent for the longest time first."""

    def __init__(
        self,
        *,
        most: int = MOST_TRANSACTIONS,
        most_recipients: int = MOST_RECIPIENTS,
        most_in_all: int = MOST_IN_ALL,
        forget_after: float = FORGET_SECONDS,
    ) -> None:
        self._most = most
        self._most_recipients = most_recipients
        self._most_in_all = most_in_all
        self._forget_after = forget_after
        self._transactions: OrderedDict[str, Transaction] = OrderedDict()
        self._instance_of: dict[object, str] = {}
        self._recipients = 0
        self._characters = 0
        self.dropped = 0
        """How many transactions were forgotten because there were too many."""

    def __len__(self) -> int:
        return len(self._transactions)

    @property
    def recipients(self) -> int:
        """How many recipients are remembered in all."""
        return self._recipients

    def add(self, instance: str, recipient: str, connection: object, now: float) -> None:
        """Remember a recipient of a message.

        connection: of a mail server's process, which has one message at a time: what it named
            before for another message is over.
        """
        self.follow(instance, connection)
        transaction = self._transactions.get(instance)
        if transaction is None:
            transaction = self._transactions[instance] = Transaction(connection=connection)
        else:
            self._transactions.move_to_end(instance)
        transaction.seen_at = now
        transaction.requests += 1
        transaction.connection = connection
        if recipient not in transaction.recipients:
            if len(transaction.recipients) >= self._most_recipients:
                transaction.is_overfull = True
            else:
                transaction.recipients[recipient] = None
                transaction.characters += len(recipient)
                self._recipients += 1
                self._characters += len(recipient)
        self._shrink()

    def follow(self, instance: str, connection: object) -> str | None:
        """Note which message a connection is about; return the one that it has left, if any."""
        before = self._instance_of.get(connection)
        if before == instance:
            return None
        self._instance_of[connection] = instance
        if before is not None:
            left = self._transactions.get(before)
            if left is not None and left.connection is connection:
                self._drop(before)
        return before

    def disconnect(self, connection: object) -> None:
        """Forget a connection; its message may go on over another one."""
        self._instance_of.pop(connection, None)

    def find(self, instance: str) -> Transaction | None:
        """Return what was seen of a message; None if nothing was."""
        return self._transactions.get(instance)

    def forget(self, instance: str) -> bool:
        """Forget a message that is complete; return whether anything was seen of it."""
        return self._drop(instance)

    def expire(self, now: float) -> int:
        """Forget the messages that were silent for too long; return how many."""
        number = 0
        while self._transactions:
            instance, transaction = next(iter(self._transactions.items()))
            if now - transaction.seen_at < self._forget_after:
                break
            self._drop(instance)
            number += 1
        return number

    def _shrink(self) -> None:
        while len(self._transactions) > 1 and (
            len(self._transactions) > self._most
            or self._recipients > self._most_in_all
            or self._characters > LONGEST_ADDRESSES
        ):
            self._drop(next(iter(self._transactions)))
            self.dropped += 1

    def _drop(self, instance: str) -> bool:
        transaction = self._transactions.pop(instance, None)
        if transaction is None:
            return False
        self._recipients -= len(transaction.recipients)
        self._characters -= transaction.characters
        return True
