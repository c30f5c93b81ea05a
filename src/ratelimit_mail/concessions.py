"""Concessions: which overrides, exemptions and grants hold for a message, and how they apply.

`apply_concessions` is where overrides and exemptions are applied to the limits of a message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Generic, TypeVar

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail.envelope import Client
from ratelimit_mail.limits import Limit
from ratelimit_mail.scopes import WITHOUT_CASE, Comparison

if TYPE_CHECKING:  # slow to import, and few policies have any
    from ratelimit_mail.overrides import Concession, Exemption, Override

__all__ = ["TargetIndex", "apply_concessions", "pattern_keys", "patterns_of"]

C = TypeVar("C", bound="Concession")


def patterns_of(sender: str) -> list[str]:
    """Return all that a concession may name `sender` by: address, domain, and domains above."""
    _, _, domain = sender.rpartition("@")
    patterns = [sender, domain]
    while domain:
        _, _, domain = domain.partition(".")
        patterns.append(f".{domain}")
    return patterns


def pattern_keys(patterns: Iterable[str], comparison: Comparison) -> frozenset[str]:
    """Return addresses as `comparison` compares them; domains are unchanged."""
    return frozenset(comparison.address(each) if "@" in each else each for each in patterns)


class TargetIndex(Generic[C]):
    """Finds the concessions that hold for a sender, in a time that hardly grows with their number.

    Those without senders are tried one by one.

    comparison: how the addresses of senders are compared.
    """

    def __init__(self, concessions: Iterable[C], comparison: Comparison = WITHOUT_CASE) -> None:
        self.all = tuple(concessions)
        self._comparison = comparison
        self._by_pattern: dict[str, list[int]] = {}
        self._without_senders: list[int] = []
        self._names_domain = BoundedCache(self._finds_domain)
        for position, each in enumerate(self.all):
            if not each.senders:
                self._without_senders.append(position)
            for pattern in pattern_keys(each.senders, comparison):
                self._by_pattern.setdefault(pattern, []).append(position)

    @property
    def is_by_sender(self) -> bool:
        """Whether each of the concessions names senders."""
        return not self._without_senders

    def names(self, sender: str, domain: str) -> bool:
        """Return whether any names the sender with this key, or the domain of its address."""
        return sender in self._by_pattern or self._names_domain[domain]

    def _finds_domain(self, domain: str) -> bool:
        return not self._by_pattern.keys().isdisjoint(patterns_of(domain))

    def holding(self, senders: Sequence[str], client: Client, now: int) -> tuple[int, ...]:
        """Return the positions of the concessions that hold, in ascending order."""
        if not self.all:
            return ()
        positions = set(self._without_senders)
        keys = map(self._comparison.address, senders)
        for pattern in chain.from_iterable(map(patterns_of, keys)):
            positions.update(self._by_pattern.get(pattern, ()))
        return tuple(i for i in sorted(positions) if self.all[i].holds_for(client, now))


def apply_concessions(
    limits: Iterable[Limit], overrides: Sequence[Override], exemptions: Sequence[Exemption]
) -> tuple[Limit, ...]:
    """Return `limits` without those exempted from, and with the numbers of the first override.

    overrides, exemptions: those that hold for the message.
    """
    if any(each.limits is None for each in exemptions):
        return ()
    exempt = {name for each in exemptions for name in each.limits or ()}
    first: dict[str | None, Override] = {}
    for override in overrides:
        for name in override.limits:
            first.setdefault(name, override)
    return tuple(
        first[limit.name].applied_to(limit) if limit.name in first else limit
        for limit in limits
        if limit.name not in exempt
    )
