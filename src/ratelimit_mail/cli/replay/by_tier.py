"""ByTier: how many clients and senders each tier of a policy had, and how many it affected."""

from __future__ import annotations

from collections.abc import Hashable

import attrs

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail.decision import DEFER, REJECT, Decision
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.policy import Policy

__all__ = ["ByTier", "TierCounts", "sender_keys"]


def sender_keys(policy: Policy) -> BoundedCache[str, str]:
    """Return the key of each sender: all spellings and aliases of one person have one key."""
    key = policy.comparison.address
    if policy.directory is None:
        return BoundedCache(key)
    return BoundedCache(lambda sender: key(policy.owner(sender)))


@attrs.define
class TierCounts:
    """The clients and senders of one tier, by their keys; affected ones had a message refused."""

    messages: int = 0
    refused: int = 0
    clients: set[Hashable] = attrs.field(factory=set)
    affected_clients: set[Hashable] = attrs.field(factory=set)
    senders: set[str] = attrs.field(factory=set)
    affected_senders: set[str] = attrs.field(factory=set)


class ByTier:
    """The counts of each tier of one replay; None stands for messages without a tier.

    A client is the network that its policy counts, or the login of one without an address.
    Messages of which no client is known count for none.
    """

    def __init__(self, policy: Policy) -> None:
        self.tiers: dict[str | None, TierCounts] = {
            tier.name: TierCounts() for tier in policy.tiers
        }
        self._comparison = policy.comparison
        self._sender_keys = sender_keys(policy)
        self._client_keys = BoundedCache(self._client_key)
        self._last_client: tuple[Client | None, Hashable] = None, None
        """With its key. Often all clients are one, and it is slow to find as a key."""

    def add(self, time: int, envelope: Envelope, decision: Decision) -> None:
        """Count one message; a callback of `replay`."""
        del time  # the counts are of all times
        counts = self.tiers.get(decision.tier)
        if counts is None:
            counts = self.tiers[decision.tier] = TierCounts()
        sender = self._sender_keys[envelope.sender]
        last, client = self._last_client
        if envelope.client is not last:
            client = self._client_keys[envelope.client]
            self._last_client = envelope.client, client
        counts.messages += 1
        counts.senders.add(sender)
        if client is not None:
            counts.clients.add(client)
        if decision.action is DEFER or decision.action is REJECT:
            counts.refused += 1
            counts.affected_senders.add(sender)
            if client is not None:
                counts.affected_clients.add(client)

    def _client_key(self, client: Client) -> Hashable:
        if client.address is not None:
            return "address", self._comparison.network(client.address)
        return None if client.user is None else ("user", self._comparison.login(client.user))
