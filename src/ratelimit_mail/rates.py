"""Parse rates and lengths of time, in the notation of the `limits` library, and calendar rates."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from ratelimit_mail._util.text import show

if TYPE_CHECKING:
    from limits import RateLimitItem

    from ratelimit_mail.rate_guesses import Guess

__all__ = [
    "MOST",
    "CalendarRate",
    "Rate",
    "parse_byte_rate",
    "parse_length",
    "parse_rate",
    "parse_size",
    "quantity",
    "size_text",
    "window_ms",
    "window_text",
    "with_amount",
]

# Up to these, sums of amounts and of times are exact, also as the doubles of Lua.
MOST: Final = 10**12
LONGEST_WINDOW: Final = 100 * 366 * 24 * 60 * 60 * 1000

LONGEST_NOTATION: Final = 100

# Checked here, because the pattern of `limits` takes exponential time for some texts. All
# repetitions are possessive, so each character is matched once.
_NOTATION: Final = re.compile(
    r"\s*+[0-9]++\s*+(?:/|per)\s*+([0-9]*+)\s*+(?:second|minute|hour|day|month|year)s?+\s*+",
    re.IGNORECASE,
)

_CALENDAR_NOTATION: Final = re.compile(
    r"\s*+([0-9]{1,20}+)\s*+(?:/|per)\s*+(?:1\s++)?+calendar\s++(hour|day|month)\s*+", re.IGNORECASE
)

# A whole number and a unit; at most as many digits as MOST has.
_SIZE: Final = re.compile(r"\s*+([0-9]{1,13}+)\s*+([a-z]{1,5}+)\s*+", re.IGNORECASE)

_BYTES_IN: Final = {
    "b": 1,
    "byte": 1,
    "bytes": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


class CalendarRate(NamedTuple):
    """How many in each hour, day or month of a calendar: `"500/calendar day"`.

    unit: `"hour"`, `"day"` or `"month"`. A `limits.RateLimitItem` is for any other rate.
    """

    amount: int
    unit: str

    def __repr__(self) -> str:
        return f"{self.amount} per calendar {self.unit}"


Rate: TypeAlias = "RateLimitItem | CalendarRate"


def parse_rate(value: str | Rate) -> Rate:
    """Return the one rate in `value`: a string, a `limits.RateLimitItem` or a `CalendarRate`.

    Strings are such as `"30/minute"`, `"50 per 15 minutes"` or `"500/calendar day"`. Abbreviations
    with one meaning are understood: `"30/min"`, `"5 per sec"`, `"10k/day"`, `"500/week"`. Raises
    TypeError or ValueError if `value` is not one rate that can be counted; the error says what to
    write if that is clear.
    """
    rate = _read_rate(value)
    if rate.amount < 1:
        raise ValueError(f"the rate {show(value)} lets nothing through; at least 1 is needed")
    if rate.amount > MOST:
        raise ValueError(f"the rate {show(value)} is above the most that can be counted, {MOST}")
    if window_ms(rate) < 1:
        raise ValueError(f"the window of the rate {show(value)} is shorter than a millisecond")
    if window_ms(rate) > LONGEST_WINDOW:
        raise ValueError(f"the window of the rate {show(value)} is longer than 100 years")
    return rate


def _read_rate(value: str | Rate) -> Rate:
    if isinstance(value, CalendarRate):
        return value
    if isinstance(value, str) and "calendar" in value[:LONGEST_NOTATION].lower():
        match = _CALENDAR_NOTATION.fullmatch(value) if len(value) <= LONGEST_NOTATION else None
        if match is None:
            raise ValueError(
                f"{show(value)} is not a rate per calendar hour, calendar day or calendar month,"
                " such as '500/calendar day'"
            )
        return CalendarRate(int(match[1]), match[2].lower())
    # Imported here, because `limits` takes longer to import than all of this package.
    from limits import RateLimitItem
    from limits.util import parse_many

    if isinstance(value, RateLimitItem):
        if not hasattr(value, "GRANULARITY"):
            raise TypeError(f"{type(value).__name__} has no unit of time; use its subclasses")
        rates = [value]
    elif not isinstance(value, str):
        raise TypeError(f"a rate is a string such as '30/minute', not {show(value)}")
    else:
        text = value
        notation = _NOTATION.fullmatch(text) if len(text) <= LONGEST_NOTATION else None
        if notation is None and (guess := _guess(value)) is not None and guess.is_certain:
            [text] = guess.rates
            notation = _NOTATION.fullmatch(text)
        try:
            rates = [] if notation is None else parse_many(text)
        except ValueError:
            rates = []
        if notation is not None and notation[1] and not notation[1].strip("0"):
            # `limits` reads "5/0 minutes" as "5/minute".
            raise ValueError(f"the window of the rate {show(value)} is shorter than a millisecond")
    if len(rates) != 1:
        raise ValueError(_not_one_rate(value))
    return rates[0]


def _guess(value: str) -> Guess | None:
    if len(value) > LONGEST_NOTATION:
        return None
    from ratelimit_mail.rate_guesses import guess_of  # few texts need it

    return guess_of(value, len(str(MOST)))


def _not_one_rate(value: object) -> str:
    """Return the text of the error for what is not a rate, with what to write."""
    guess = _guess(value) if isinstance(value, str) else None
    if guess is None:
        return f"{show(value)} is not one rate such as '30/minute' or '50 per 15 minutes'"
    *first, last = map(repr, guess.rates)
    words = f"{', '.join(first)} or {last}" if first else last
    return f"{show(value)} is not one rate; did you mean {words}?"


def parse_byte_rate(value: str | Rate) -> Rate:
    """Return the one rate in `value`, whose amount may have a unit: `"500 MB/day"`.

    Raises TypeError or ValueError as `parse_rate` and `parse_size` do.
    """
    if isinstance(value, str) and len(value) <= LONGEST_NOTATION:
        separator = "/" if "/" in value else " per "
        amount, found, window = value.partition(separator)
        if found and _SIZE.fullmatch(amount):
            value = f"{parse_size(amount)}{separator}{window}"
    return parse_rate(value)


def parse_size(value: int | str) -> int:
    """Return a number of bytes: a whole number, or a string such as `"25 MB"` or `"25 MiB"`.

    kB, MB, GB and TB are powers of 1,000; KiB, MiB, GiB and TiB are powers of 1,024.
    Raises TypeError or ValueError if `value` is neither, or below 1 byte.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"a size is a number of bytes, or '25 MB', not {show(value)}")
    if isinstance(value, int):
        size = value
    else:
        match = _SIZE.fullmatch(value)
        factor = None if match is None else _BYTES_IN.get(match[2].lower())
        if match is None or factor is None:
            raise ValueError(f"{show(value)} is not a size such as '500 kB', '25 MB' or '25 MiB'")
        size = int(match[1]) * factor
    if size < 1:
        raise ValueError(f"the size {show(value)} lets nothing through; at least 1 byte is needed")
    if size > MOST:
        raise ValueError(f"the size {show(value)} is above the most there may be, {MOST} bytes")
    return size


def size_text(size: int) -> str:
    """Return a number of bytes in words, in the largest unit that is exact: `25 MB`, `25 MiB`."""
    for unit in ("TB", "TiB", "GB", "GiB", "MB", "MiB", "kB", "KiB"):
        if size and size % _BYTES_IN[unit.lower()] == 0:
            return f"{size // _BYTES_IN[unit.lower()]} {unit}"
    return quantity(size, "bytes")


def parse_length(value: str) -> int:
    """Return a length of time such as `"1 second"` or `"15 minutes"` in milliseconds."""
    if not isinstance(value, str):
        raise TypeError(f"a length of time is a string such as '1 second', not {show(value)}")
    try:
        rate = parse_rate(f"1/{value}")
    except ValueError:
        rate = None
    if rate is None or isinstance(rate, CalendarRate):
        raise ValueError(f"{show(value)} is not a length of time such as '1 second'")
    return window_ms(rate)


def with_amount(rate: Rate, amount: int) -> Rate:
    """Return a rate of another amount for the same window."""
    if isinstance(rate, CalendarRate):
        return rate._replace(amount=amount)
    return type(rate)(amount, rate.multiples)


def window_ms(rate: Rate) -> int:
    """Return the length of the rate's window in milliseconds; of a month, that of 31 days."""
    if isinstance(rate, CalendarRate):
        from ratelimit_mail.calendars import UNITS  # few limits have a calendar

        return UNITS[rate.unit]
    return int(rate.get_expiry() * 1000)


def window_text(rate: Rate) -> str:
    """Return the rate's window in words: `minute`, `15 minutes`, `calendar day`."""
    if isinstance(rate, CalendarRate):
        return f"calendar {rate.unit}"
    unit = rate.GRANULARITY.name
    return unit if rate.multiples == 1 else f"{rate.multiples} {unit}s"


def quantity(amount: int, things: str) -> str:
    """Return `amount` with `things`, a plural, in words: `1 message`, `30 messages`."""
    return f"{amount} {things.removesuffix('s') if amount == 1 else things}"
