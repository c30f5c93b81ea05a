"""TierTable: how the tier of a client is chosen, the first whose condition holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from ratelimit_mail.envelope import Client

if TYPE_CHECKING:  # slow to import, and many policies have none
    from ratelimit_mail.policy.tiers import Tier

__all__ = ["TierTable"]

T = TypeVar("T")
U = TypeVar("U")


class TierTable(Generic[T]):
    """Chooses the tier of a client: the first whose condition holds. Each tier has a value.

    rows: the tiers with their values, in the policy's order.
    default: the value for a client that is not in a tier.
    """

    __slots__ = ("default", "rows")

    def __init__(self, rows: Iterable[tuple[Tier, T]], default: T) -> None:
        self.rows = tuple(rows)
        self.default = default

    def choose(self, client: Client) -> T:
        """Return the value of the client's tier."""
        for tier, value in self.rows:
            if tier.holds(client):
                return value
        return self.default

    def values(self) -> Iterator[T]:
        """Yield the default, and the value of each tier."""
        yield self.default
        for _, value in self.rows:
            yield value

    def map(self, function: Callable[[T], U]) -> TierTable[U]:
        """Return a table of the same tiers with `function` applied to each value."""
        rows = [(tier, function(value)) for tier, value in self.rows]
        return TierTable(rows, function(self.default))
