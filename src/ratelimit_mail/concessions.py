"""For whom a policy makes an exception, and until when: what overrides and their like share.

They know the time only as they are told it: what has ended stops by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Generic, TypeVar

import attrs

from ratelimit_mail.addresses import normal_sender
from ratelimit_mail.conditions import Condition
from ratelimit_mail.domains import DomainSet, normal_pattern
from ratelimit_mail.envelope import Client
from ratelimit_mail.showing import show

__all__ = ["Concession", "Register"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

C = TypeVar("C", bound="Concession")

Moment = datetime | date
"""A moment with its zone, or a whole day in UTC."""


def _senders(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"senders: a list of addresses or domains is needed, not {show(value)}")
    try:
        return tuple(dict.fromkeys(map(_sender, value)))
    except (TypeError, ValueError) as error:
        raise type(error)(f"senders: {error}") from None


def _sender(value: object) -> str:
    if isinstance(value, str) and value and "@" not in value and value != "<>":
        return normal_pattern(value)
    return normal_sender(value)[0]


def _moment(_: object, attribute: attrs.Attribute[Moment | None], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, date):
        raise TypeError(f"{attribute.name}: a date or datetime is needed, not {show(value)}")
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError(f"{attribute.name}: {value} has no time zone; say tzinfo=UTC, or a date")


def _text(_: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{attribute.name}: a text is needed, not {show(value)}")


def _when(_: object, attribute: attrs.Attribute[Condition | None], value: object) -> None:
    if value is not None and not callable(value):
        raise TypeError(
            f"{attribute.name}: {show(value)} is no condition such as has_tag('wireless')"
        )


def _milliseconds(moment: Moment, *, day_ends: bool) -> int:
    """`moment` in milliseconds since the epoch; a day is its start, or the end of it."""
    if not isinstance(moment, datetime):
        day = datetime.combine(moment, time(), UTC)
        return (day - _EPOCH) // _MILLISECOND + (86_400_000 if day_ends else 0)
    return (moment - _EPOCH) // _MILLISECOND


@attrs.frozen(kw_only=True)
class Concession:
    """For whom something holds, why and until when; use one of its three kinds.

    senders: addresses, or domains: `"leeds.ac.uk"`, or `".leeds.ac.uk"` for all below it.
    when: a condition on the client. Where both are given, both must hold.
    reason, granted_by: kept for people to read.
    starts, ends: a datetime with its zone, or a date, which is a whole day in UTC: one that ends
        it is included. Left out: from ever, for ever.

    Raises TypeError or ValueError that names what is wrong.
    """

    senders: tuple[str, ...] = attrs.field(default=(), converter=_senders)
    when: Condition | None = attrs.field(default=None, validator=_when)
    reason: str | None = attrs.field(default=None, validator=_text)
    granted_by: str | None = attrs.field(default=None, validator=_text)
    starts: Moment | None = attrs.field(default=None, validator=_moment)
    ends: Moment | None = attrs.field(default=None, validator=_moment)
    _addresses: frozenset[str] = attrs.field(init=False, repr=False, eq=False)
    _domains: DomainSet = attrs.field(init=False, repr=False, eq=False)
    _from: int | None = attrs.field(init=False, repr=False, eq=False)
    _until: int | None = attrs.field(init=False, repr=False, eq=False)

    @_addresses.default
    def _addresses_of(self) -> frozenset[str]:
        return frozenset(each for each in self.senders if "@" in each or each == "<>")

    @_domains.default
    def _domains_of(self) -> DomainSet:
        return DomainSet(each for each in self.senders if "@" not in each and each != "<>")

    @_from.default
    def _start(self) -> int | None:
        return None if self.starts is None else _milliseconds(self.starts, day_ends=False)

    @_until.default
    def _end(self) -> int | None:
        return None if self.ends is None else _milliseconds(self.ends, day_ends=True)

    def __attrs_post_init__(self) -> None:
        what = type(self).__name__.lower()
        if not self.senders and self.when is None:
            raise ValueError(f"{what}: say for whom: senders=[...], when=..., or both")
        if self._from is not None and self._until is not None and self._until <= self._from:
            raise ValueError(f"{what}: it ends ({self.ends}) before it starts ({self.starts})")

    def __reduce__(self) -> tuple[object, ...]:
        given = {each.name: getattr(self, each.name) for each in attrs.fields(type(self))}
        given = {name: value for name, value in given.items() if not name.startswith("_")}
        if isinstance(given.get("limits"), Mapping):
            given["limits"] = dict(given["limits"])  # its read-only view cannot be pickled
        return _copy, (type(self), given)

    @property
    def has_dates(self) -> bool:
        """Whether the time matters to it."""
        return self._from is not None or self._until is not None

    def holds(self, senders: Sequence[str], client: Client, now: int) -> bool:
        """Whether it holds at `now` for a client that sends under any of `senders`."""
        if self._from is not None and now < self._from:
            return False
        if self._until is not None and now >= self._until:
            return False
        if self.senders and not any(map(self._names, senders)):
            return False
        return self.when is None or self.when(client)

    def _names(self, sender: str) -> bool:
        if sender in self._addresses:
            return True
        return bool(self._domains.patterns) and self._domains[sender.rpartition("@")[2]]


def _copy(kind: type[Concession], given: Mapping[str, Any]) -> Concession:
    return kind(**given)


class Register(Generic[C]):
    """Concessions, found by who sends: thousands of them cost a message no more than a few."""

    def __init__(self, concessions: Iterable[C]) -> None:
        self.all = tuple(concessions)
        self._by_sender: dict[str, list[int]] = {}
        self._others: list[int] = []
        for number, each in enumerate(self.all):
            if each.senders and all("@" in sender for sender in each.senders):
                for sender in each.senders:
                    self._by_sender.setdefault(sender, []).append(number)
            else:
                self._others.append(number)

    def holding(self, senders: Sequence[str], client: Client, now: int) -> tuple[int, ...]:
        """The numbers of those that hold, in their order."""
        if not self.all:
            return ()
        numbers = set(self._others)
        for sender in senders:
            numbers.update(self._by_sender.get(sender, ()))
        return tuple(n for n in sorted(numbers) if self.all[n].holds(senders, client, now))
