"""Override, Exemption and Grant: what a policy concedes to some senders or clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import attrs

from ratelimit_mail._util.text import in_short, show
from ratelimit_mail.concessions import Concession
from ratelimit_mail.limits import Limit, RateLimit, RecipientLimit
from ratelimit_mail.rates import parse_rate

__all__ = ["Exemption", "Grant", "Override"]


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

    __repr__ = in_short

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

    __repr__ = in_short


@attrs.frozen
class Grant(Concession):
    """Who may send at all, where a policy asks for grants.

    expected_recipients: to how many was going to be sent; kept for people to read.
    """

    expected_recipients: int | None = attrs.field(default=None, kw_only=True, validator=_recipients)

    __repr__ = in_short
