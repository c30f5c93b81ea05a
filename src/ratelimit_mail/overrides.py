"""For whom a policy makes an exception, and until when: what overrides and their like share.

They know the time only as they are told it: what has ended stops by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

import attrs

from ratelimit_mail._util.text import short_repr, show
from ratelimit_mail.addresses import NULL_SENDER, normal_pattern, subject_sender
from ratelimit_mail.conditions import Condition
from ratelimit_mail.envelope import Client
from ratelimit_mail.limits import Limit, RateLimit, RecipientLimit
from ratelimit_mail.rates import parse_rate

__all__ = ["Concession", "Exemption", "Grant", "Override", "TargetIndex"]

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
    # The empty string is no null sender here: an empty field of a table must not name one.
    if isinstance(value, str) and "@" not in value and value != NULL_SENDER:
        return normal_pattern(value)
    return subject_sender(value)


def _names_of(sender: str) -> list[str]:
    """All by which a concession may name `sender`: its address, its domain, what is above that."""
    _, _, domain = sender.rpartition("@")
    names = [sender, domain]
    while domain:
        _, _, domain = domain.partition(".")
        names.append(f".{domain}")
    return names


def _text(_: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{attribute.name}: a text is needed, not {show(value)}")


def _when(_: object, attribute: attrs.Attribute[Condition | None], value: object) -> None:
    if value is not None and not callable(value):
        raise TypeError(
            f"{attribute.name}: {show(value)} is no condition such as has_tag('wireless')"
        )


def _milliseconds(name: str, moment: object, *, day_ends: bool) -> int | None:
    """`moment` in milliseconds since the epoch; a day is its start, or the end of it."""
    if moment is None:
        return None
    if not isinstance(moment, date):
        raise TypeError(f"{name}: a date or datetime is needed, not {show(moment)}")
    if not isinstance(moment, datetime):
        day = datetime.combine(moment, time(), UTC)
        return (day - _EPOCH) // _MILLISECOND + (86_400_000 if day_ends else 0)
    if moment.utcoffset() is None:
        raise ValueError(f"{name}: {moment} has no time zone; say tzinfo=UTC, or a date")
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
    starts: Moment | None = None
    ends: Moment | None = None
    _named: frozenset[str] = attrs.field(init=False, repr=False, eq=False)
    _from: int | None = attrs.field(init=False, repr=False, eq=False)
    _until: int | None = attrs.field(init=False, repr=False, eq=False)

    @_named.default
    def _names(self) -> frozenset[str]:
        return frozenset(self.senders)

    @_from.default
    def _start(self) -> int | None:
        return _milliseconds("starts", self.starts, day_ends=False)

    @_until.default
    def _end(self) -> int | None:
        return _milliseconds("ends", self.ends, day_ends=True)

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
        if self.senders and all(self._named.isdisjoint(_names_of(each)) for each in senders):
            return False
        return self.when is None or self.when(client)


def _copy(kind: type[Concession], given: Mapping[str, Any]) -> Concession:
    return kind(**given)


class TargetIndex(Generic[C]):
    """Concessions, found by who sends: thousands of them cost a message no more than a few.

    Those that name no senders are looked at one by one.
    """

    def __init__(self, concessions: Iterable[C]) -> None:
        self.all = tuple(concessions)
        self._by_sender: dict[str, list[int]] = {}
        self._others: list[int] = []
        for number, each in enumerate(self.all):
            if not each.senders:
                self._others.append(number)
            for sender in each.senders:
                self._by_sender.setdefault(sender, []).append(number)

    def holding(self, senders: Sequence[str], client: Client, now: int) -> tuple[int, ...]:
        """The numbers of those that hold, in their order."""
        if not self.all:
            return ()
        numbers = set(self._others)
        for name in chain.from_iterable(map(_names_of, senders)):
            numbers.update(self._by_sender.get(name, ()))
        return tuple(n for n in sorted(numbers) if self.all[n].holds(senders, client, now))


def _recipients(_: object, attribute: attrs.Attribute[int | None], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{attribute.name}: a whole number is needed, not {show(value)}")
    if value < 1:
        raise ValueError(
            f"{attribute.name}: {show(value)} is no number of recipients; at least 1 is needed"
        )


def _numbers(value: object) -> Mapping[str, int | str]:
    if not isinstance(value, Mapping) or not value:
        raise TypeError(
            "limits: numbers by the names of limits are needed, such as"
            f" {{'recipients a message': 500}}, not {show(value)}"
        )
    for name, number in value.items():
        if not isinstance(name, str):
            raise TypeError(f"limits: the name of a limit is a string, not {show(name)}")
        if isinstance(number, bool) or not isinstance(number, int | str):
            raise TypeError(
                f"limits: {show(name)}: a number such as 500, or a rate such as '20000/day',"
                f" is needed, not {show(number)}"
            )
    return MappingProxyType(dict(value))


@attrs.frozen
class Override(Concession):
    """Other numbers for named limits.

    limits: by the name of the limit, a number, or for a rate limit also a rate such as
        `"20000/day"`, where its window is another one, too.
    expected_recipients: to how many was going to be sent; kept for people to read.
    """

    limits: Mapping[str, int | str] = attrs.field(
        converter=_numbers, hash=False, repr=lambda numbers: repr(dict(numbers))
    )
    expected_recipients: int | None = attrs.field(default=None, kw_only=True, validator=_recipients)

    __repr__ = short_repr

    def applied_to(self, limit: Limit) -> Limit:
        """`limit` with its other numbers. Raises ValueError where they do not fit it."""
        number = self.limits[limit.name or ""]
        try:
            if isinstance(limit, RecipientLimit):
                if not isinstance(number, int):
                    raise ValueError(f"a number is needed, not {show(number)}")
                return attrs.evolve(limit, limit=number)
            return attrs.evolve(limit, rate=_rate(limit, number))
        except ValueError as error:
            raise ValueError(f"override of {limit.name!r}: {error}") from None


def _rate(limit: RateLimit, number: int | str) -> object:
    if isinstance(number, int):
        item = limit.rate
        return type(item)(number, item.multiples)
    return parse_rate(number)


def _names(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise TypeError(f"limits: a list of names of limits is needed, not {show(value)}")
    names = tuple(value)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"limits: the name of a limit is a string, not {show(name)}")
    if not names:
        raise ValueError("limits: an empty list exempts from nothing; leave it out for all limits")
    return names


@attrs.frozen
class Exemption(Concession):
    """Whom a policy leaves alone.

    limits: the names of the limits that do not hold; left out: none does.
    """

    limits: tuple[str, ...] | None = attrs.field(default=None, converter=_names)

    __repr__ = short_repr


@attrs.frozen
class Grant(Concession):
    """Who may send at all, where a policy asks for grants.

    expected_recipients: to how many was going to be sent; kept for people to read.
    """

    expected_recipients: int | None = attrs.field(default=None, kw_only=True, validator=_recipients)

    __repr__ = short_repr
