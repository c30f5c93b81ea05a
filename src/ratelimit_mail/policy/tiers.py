"""Tiers: classes of clients with limits of their own, and how the tier of a client is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Generic, TypeVar

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import name
from ratelimit_mail.conditions import Condition
from ratelimit_mail.envelope import Client
from ratelimit_mail.limits import BaseLimit, Limit, RateLimit
from ratelimit_mail.policy.reachability import first_unreachable

__all__ = ["Tier", "TierTable", "check_tiers", "limits_from"]

T = TypeVar("T")
U = TypeVar("U")

MOST_NAMED: Final = 6
"""How many tiers an error names."""


def limits_from(value: Iterable[BaseLimit]) -> tuple[Limit, ...]:
    """Return `value` as a tuple of limits. Raises TypeError if it is not a list of limits."""
    if not isinstance(value, Iterable):
        raise TypeError(f"limits: a list of limits is needed, not {show(value)}")
    limits: list[Limit] = []
    for limit in value:
        if not isinstance(limit, Limit) or type(limit) is RateLimit:
            raise TypeError(
                f"limits: {show(limit)} is not a RecipientLimit, MessageSizeLimit,"
                " MessageRateLimit, RecipientRateLimit or ByteRateLimit"
            )
        limits.append(limit)
    return tuple(limits)


@attrs.frozen
class Tier:
    """A class of clients with limits of its own.

    name: its name in decisions and tables.
    when: the condition on the client; default: every client that is not in an earlier tier.
    limits: the limits of its clients, in addition to the policy's common limits.
    """

    name: str = attrs.field(validator=name)
    when: Condition | None = attrs.field(default=None, kw_only=True)
    limits: tuple[Limit, ...] = attrs.field(default=(), kw_only=True, converter=limits_from)

    @when.validator
    def _callable(self, _: object, value: object) -> None:
        if value is not None and not callable(value):
            raise TypeError(
                f"tier {self.name!r}: when: {show(value)} is not a condition"
                " such as has_tag('wireless')"
            )

    def holds(self, client: Client) -> bool:
        """Return whether `client` is in this tier, if it is not in an earlier one."""
        return self.when is None or self.when(client)


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


def check_tiers(tiers: Sequence[Tier]) -> None:
    """Raise ValueError for two tiers of one name, and for a tier that can never be reached."""
    names = [tier.name for tier in tiers]
    seen: set[str] = set()
    for each in names:
        if each in seen:
            raise ValueError(f"tiers: two of them are named {each!r}")
        seen.add(each)
    unreachable = first_unreachable([tier.when for tier in tiers])
    if unreachable is None:
        return
    tier, earlier = unreachable
    if not earlier:
        why = "no client meets its condition"
    elif len(earlier) == 1:
        why = f"{names[earlier[0]]!r} before it takes every such client"
    else:
        before = [repr(names[i]) for i in earlier[:MOST_NAMED]]
        if len(earlier) > MOST_NAMED:
            before.append(f"{len(earlier) - MOST_NAMED:,} more")
        why = f"{' and '.join(before)} before it take every such client"
    raise ValueError(f"tiers: {names[tier]!r} can never be reached, because {why}")
