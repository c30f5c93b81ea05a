"""Charges: what one envelope adds to counts. A backend knows nothing else of a message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import gcd
from operator import add
from typing import Final, Self

from ratelimit_mail.counting.members import MemberChange
from ratelimit_mail.counting.window import Retention, Window

__all__ = [
    "FIRST_UNIQUE",
    "NO_COSTS",
    "NO_LIMIT",
    "ONE_MESSAGE",
    "UNITS",
    "Charge",
    "Costs",
    "Count",
    "Ledger",
    "Refusal",
    "UniqueCosts",
    "add_costs",
    "costs_of",
    "retention_for",
]

UNITS = (
    "messages",
    "recipients",
    "external messages",
    "external recipients",
    "bytes",
    "external bytes",
    "unique recipients",
    "unique external recipients",
)
"""The units that are counted; the number of a unit is its index here."""

FIRST_UNIQUE: Final = UNITS.index("unique recipients")
"""From this unit on, a recipient counts once: see `ratelimit_mail.counting.members`."""

NO_LIMIT: Final = (1 << 48) - 1
"""More than any count holds: the smallest limit of a count without windows. It fits six bytes."""

Costs = tuple[int, int, int, int, int, int, int, int]
"""What a message costs of each of `UNITS`; 0 means that nothing is counted."""

NO_COSTS: Final[Costs] = (0, 0, 0, 0, 0, 0, 0, 0)

ONE_MESSAGE: Final[Costs] = (1, 0, 0, 0, 0, 0, 0, 0)
"""What one booking adds to a sender's queue."""


class UniqueCosts(Costs):
    """Costs of which some are of unique recipients: one for each.

    members: the digests of these recipients, by unit.
    changes: what was changed for each of them, by unit; only in a receipt, and not of a booking
        ahead, whose events are its own.
    """

    members: Mapping[int, tuple[str, ...]]
    changes: Mapping[int, tuple[MemberChange, ...]]

    @classmethod
    def of(
        cls,
        costs: Iterable[int],
        members: Mapping[int, tuple[str, ...]],
        changes: Mapping[int, tuple[MemberChange, ...]] | None = None,
    ) -> Self:
        """Return costs with the recipients that they are of."""
        new = cls(costs)
        new.members = members
        new.changes = changes or {}
        return new


def add_costs(one: Costs, other: Costs) -> Costs:
    """Return the sum of two costs, which have no recipient in common."""
    costs: Costs = tuple(map(add, one, other))
    if type(one) is type(other) is tuple:
        return costs
    members: dict[int, tuple[str, ...]] = {}
    for each in (one, other):
        if isinstance(each, UniqueCosts):
            for unit, of_unit in each.members.items():
                members[unit] = members.get(unit, ()) + of_unit
    return UniqueCosts.of(costs, members)


def costs_of(unit: int, cost: int) -> Costs:
    """Return costs of one unit alone."""
    return tuple(cost if each == unit else 0 for each in range(len(UNITS)))  # type: ignore[return-value]


class Count:
    """One unit that is counted for each subject of a ledger.

    unit: its number in `UNITS`.
    windows: the windows that apply to the message; without any, it is recorded and never refused.
    retention: what a log must remember, for these windows and every other of the policy.

    smallest: the smallest limit of the windows; NO_LIMIT without any.
    most: the largest cost that could ever fit; windows that spread admit any.
    counts_denied: whether a refused attempt is counted.
    is_unique: whether a recipient counts once.
    """

    __slots__ = (
        "counts_denied",
        "is_unique",
        "most",
        "retention",
        "smallest",
        "unit",
        "windows",
    )

    def __init__(self, unit: int, windows: tuple[Window, ...], retention: Retention) -> None:
        self.unit = unit
        self.windows = windows
        self.retention = retention
        self.smallest = min((window.limit for window in windows), default=NO_LIMIT)
        bounded = (window.limit for window in windows if not window.spread)
        self.most = min(bounded, default=NO_LIMIT)
        self.counts_denied = any(window.denied for window in windows)
        self.is_unique = unit >= FIRST_UNIQUE


class Ledger:
    """What is counted per one scope of a policy.

    name: policy and scope; no limit, window or tier, so that history outlives them. No two
        ledgers share it. With a subject and a unit it names one count.
    counts: the units that a message is charged.
    span: how many milliseconds an event can matter to any count of the scope.
    tag_of: returns the tag of a subject; a cluster keeps counts of one tag together. None if
        the tag is the subject itself.

    bounds: the unit of each count and its smallest limit: below it nothing can be refused. -1 for a
        count of unique recipients: what a message costs is not known without its log.
    counts_denied: whether a refused attempt is counted.
    has_windows: whether any of its counts may refuse a message.
    """

    __slots__ = (
        "bounds",
        "counts",
        "counts_denied",
        "has_windows",
        "name",
        "span",
        "tag_of",
    )

    def __init__(
        self,
        name: str,
        counts: tuple[Count, ...],
        span: int,
        tag_of: Callable[[str], str] | None = None,
    ) -> None:
        self.name = name
        self.counts = counts
        self.span = span
        self.tag_of = tag_of
        self.bounds = tuple(
            (count.unit, -1 if count.is_unique else count.smallest) for count in counts
        )
        self.counts_denied = any(count.counts_denied for count in counts)
        self.has_windows = any(count.windows for count in counts)

    def has_unit(self, unit: int) -> bool:
        """Return whether a unit is counted here."""
        return any(count.unit == unit for count in self.counts)

    def charges(self, costs: Costs) -> bool:
        """Return whether a message of these costs is counted here at all."""
        return any(costs[count.unit] for count in self.counts)


Charge = tuple[Ledger, str, Costs]
"""A ledger, a subject, and what is added there: a plain tuple, for speed."""

Refusal = tuple[Count, int, int]
"""A count, the number of its window, and the first moment at which that window has room."""


def retention_for(windows: list[Window]) -> Retention:
    """Return what a log must remember to serve each of `windows` exactly."""
    return Retention(
        span=max(window.length + window.resolution - 1 for window in windows),
        slot=gcd(*(window.resolution for window in windows)),
        ceiling=max((window.limit for window in windows if window.denied), default=0),
    )
