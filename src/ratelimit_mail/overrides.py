"""Overrides, exemptions and grants: how a limit is raised, lifted or opened for some senders.

`ratelimit_mail.concessions` finds those that hold for a message, and applies them to its limits.
What has dates is compared with the time of the message, so it ends without any change to the
policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import attrs

from ratelimit_mail._util.documentation import with_arguments_of
from ratelimit_mail._util.epoch import milliseconds_of, start_of
from ratelimit_mail._util.text import short_repr, show
from ratelimit_mail._util.validators import prefix_errors, whole_number
from ratelimit_mail.addresses import NULL_SENDER, normal_pattern
from ratelimit_mail.concessions import pattern_keys, patterns_of
from ratelimit_mail.envelope import Client
from ratelimit_mail.limits import Limit, MessageSizeLimit, RateLimit
from ratelimit_mail.rates import CalendarRate, parse_byte_rate, with_amount
from ratelimit_mail.scopes import WITHOUT_CASE
from ratelimit_mail.smtp_addresses import subject_sender

if TYPE_CHECKING:
    from ratelimit_mail.conditions import Condition

__all__ = ["Concession", "Exemption", "Grant", "Override"]

Moment = datetime | date
"""A datetime with its time zone, or a whole day in UTC."""

_DAY: Final = 24 * 60 * 60 * 1000


# Fields that all three kinds have.


def _senders(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"senders: a list of addresses or domains is needed, not {show(value)}")
    with prefix_errors("senders"):
        return tuple(dict.fromkeys(map(_sender, value)))


def _sender(value: str) -> str:
    # Here the empty string is not the null sender: an empty field of a table must not name it.
    if isinstance(value, str) and "@" not in value and value != NULL_SENDER:
        return normal_pattern(value)
    return subject_sender(value)


def _text(_: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{attribute.name}: a text is needed, not {show(value)}")


def _when(_: object, attribute: attrs.Attribute[Condition | None], value: object) -> None:
    if value is not None and not callable(value):
        raise TypeError(
            f"{attribute.name}: {show(value)} is not a condition such as has_tag('wireless')"
        )


def _milliseconds(field: str, moment: object, *, day_ends: bool) -> int | None:
    """Return `moment` in milliseconds since the epoch; for a day, its start or its end."""
    if moment is None:
        return None
    if not isinstance(moment, date):
        raise TypeError(f"{field}: a date or datetime is needed, not {show(moment)}")
    if not isinstance(moment, datetime):
        return milliseconds_of(start_of(moment)) + (_DAY if day_ends else 0)
    if moment.utcoffset() is None:
        raise ValueError(f"{field}: {moment} has no time zone; say tzinfo=UTC, or a date")
    return milliseconds_of(moment)


@attrs.frozen(kw_only=True)
class Concession:
    """An exception for some senders or clients; use one of the subclasses.

    senders: addresses, or domains: `"leeds.ac.uk"`, or `".leeds.ac.uk"` for all its subdomains.
        They are compared with a sender as the policy compares addresses.
    when: a condition on the client. With `senders` too, both must hold.
    reason, granted_by: notes for people to read.
    starts, ends: a datetime with its time zone, or a date, which is a whole day in UTC; a date
        in `ends` is the last day. Left out: no start, no end.

    Raises TypeError or ValueError that names what is wrong.
    """

    senders: tuple[str, ...] = attrs.field(default=(), converter=_senders)
    when: Condition | None = attrs.field(default=None, validator=_when)
    reason: str | None = attrs.field(default=None, validator=_text)
    granted_by: str | None = attrs.field(default=None, validator=_text)
    starts: Moment | None = None
    ends: Moment | None = None
    _patterns: frozenset[str] = attrs.field(init=False, repr=False, eq=False)
    _from: int | None = attrs.field(init=False, repr=False, eq=False)
    _until: int | None = attrs.field(init=False, repr=False, eq=False)

    @_patterns.default
    def _sender_patterns(self) -> frozenset[str]:
        return pattern_keys(self.senders, WITHOUT_CASE)

    @_from.default
    def _start(self) -> int | None:
        return _milliseconds("starts", self.starts, day_ends=False)

    @_until.default
    def _end(self) -> int | None:
        return _milliseconds("ends", self.ends, day_ends=True)

    def __attrs_post_init__(self) -> None:
        kind = type(self).__name__.lower()
        if not self.senders and self.when is None:
            raise ValueError(f"{kind}: senders=[...], when=... or both are needed")
        if self._from is not None and self._until is not None and self._until <= self._from:
            raise ValueError(f"{kind}: it ends ({self.ends}) before it starts ({self.starts})")

    def __reduce__(self) -> tuple[object, ...]:
        arguments = {
            field.name: getattr(self, field.name)
            for field in attrs.fields(type(self))
            if field.init
        }
        if isinstance(arguments.get("limits"), Mapping):
            arguments["limits"] = dict(arguments["limits"])  # a read-only view cannot be pickled
        return _copy, (type(self), arguments)

    @property
    def has_dates(self) -> bool:
        """Whether it has a start or an end."""
        return self._from is not None or self._until is not None

    def holds(self, senders: Sequence[str], client: Client, now: int) -> bool:
        """Return whether it holds at `now` for a client that sends under any of `senders`.

        Addresses are compared without case. A policy may compare otherwise: it uses a TargetIndex.
        """
        if self.senders and all(
            self._patterns.isdisjoint(patterns_of(WITHOUT_CASE.address(each))) for each in senders
        ):
            return False
        return self.holds_for(client, now)

    def holds_for(self, client: Client, now: int) -> bool:
        """Return whether it holds at `now` for a client, if it does for the sender."""
        if self._from is not None and now < self._from:
            return False
        if self._until is not None and now >= self._until:
            return False
        return self.when is None or self.when(client)


def _copy(kind: type[Concession], arguments: Mapping[str, Any]) -> Concession:
    return kind(**arguments)


# The three kinds.


def _limit_numbers(value: Mapping[str, int | str]) -> Mapping[str, int | str]:
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


def _limit_names(value: Iterable[str] | None) -> tuple[str, ...] | None:
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


def _recipients(_: object, attribute: attrs.Attribute[int | None], value: object) -> None:
    if value is not None and whole_number(attribute.name, value) < 1:
        raise ValueError(
            f"{attribute.name}: {show(value)} is not a number of recipients; at least 1 is needed"
        )


@with_arguments_of(Concession)
@attrs.frozen
class Override(Concession):
    """Different numbers for named limits.

    limits: by the name of the limit, a number; for a rate limit also a rate such as
        `"20000/day"` or `"20000/calendar day"`, whose window may be a different one; for a size
        also `"50 MB"`.
    expected_recipients: the number of recipients that the sender announced. It changes no
        decision; a limiter with a listener reports `ExpectedRecipientsExceeded` above it.

    `Concession` explains the other arguments.
    """

    limits: Mapping[str, int | str] = attrs.field(
        converter=_limit_numbers, hash=False, repr=lambda numbers: repr(dict(numbers))
    )
    expected_recipients: int | None = attrs.field(default=None, kw_only=True, validator=_recipients)

    __repr__ = short_repr

    def applied_to(self, limit: Limit) -> Limit:
        """Return `limit` with the number that this override has for it.

        Raises ValueError if the number does not suit the limit.
        """
        number = self.limits[limit.name or ""]
        try:
            if isinstance(limit, RateLimit):
                return _with_rate(limit, number)
            if isinstance(limit, MessageSizeLimit):
                return attrs.evolve(limit, limit=number)
            if not isinstance(number, int):
                raise ValueError(f"a number is needed, not {show(number)}")
            return attrs.evolve(limit, limit=number)
        except ValueError as error:
            raise ValueError(f"override of {limit.name!r}: {error}") from None


def _with_rate(limit: RateLimit, number: int | str) -> RateLimit:
    """Return the limit with another rate: a number is for the same window."""
    if isinstance(number, int):
        return attrs.evolve(limit, rate=with_amount(limit.rate, number))
    is_calendar = isinstance(parse_byte_rate(number), CalendarRate)
    return attrs.evolve(limit, rate=number, time_zone=limit.time_zone if is_calendar else None)


@with_arguments_of(Concession)
@attrs.frozen
class Exemption(Concession):
    """Senders or clients that are free from a policy's limits.

    limits: the names of the limits that do not apply; left out: all limits.

    `Concession` explains the other arguments.
    """

    limits: tuple[str, ...] | None = attrs.field(default=None, converter=_limit_names)

    __repr__ = short_repr


@with_arguments_of(Concession)
@attrs.frozen
class Grant(Concession):
    """Senders or clients that may send, under a policy that requires grants.

    expected_recipients: the number of recipients that the sender announced; a note for people
        to read.

    `Concession` explains the other arguments.
    """

    expected_recipients: int | None = attrs.field(default=None, kw_only=True, validator=_recipients)

    __repr__ = short_repr
