"""The kinds of limit: their numbers, what they count, and what happens on excess."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypedDict, Unpack

import attrs

from ratelimit_mail._util.documentation import with_arguments_of
from ratelimit_mail._util.text import short_repr, show
from ratelimit_mail._util.validators import flag, name_or_none, one_of, whole_number
from ratelimit_mail.rates import (
    MOST,
    CalendarRate,
    Rate,
    parse_byte_rate,
    parse_length,
    parse_rate,
    parse_size,
    quantity,
    size_text,
    window_ms,
    window_text,
)
from ratelimit_mail.scopes import is_per_recipient, normal_scope

if TYPE_CHECKING:
    from ratelimit_mail.calendars import Calendar

__all__ = [
    "BaseLimit",
    "ByteRateLimit",
    "Limit",
    "MessageRateLimit",
    "MessageSizeLimit",
    "RateLimit",
    "RecipientLimit",
    "RecipientRateLimit",
    "limits_from",
]


def _amount(_: object, attribute: attrs.Attribute[int], value: object) -> None:
    amount = whole_number(attribute.name, value)
    if amount < 1:
        raise ValueError(
            f"{attribute.name}: {show(value)} lets nothing through; at least 1 is needed"
        )
    if amount > MOST:
        raise ValueError(f"{attribute.name}: {show(value)} is above the most there may be, {MOST}")


def _reply(limit: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{attribute.name}: a line of text is needed, not {show(value)}")
    if not 0 < len(value) <= 400 or not value.isascii() or not value.isprintable():
        raise ValueError(
            f"{attribute.name}: {show(value)} is not a line of 1 to 400 printable ASCII characters"
        )
    if (match := REPLY_CODE.fullmatch(value)) is None:
        return
    excess = getattr(limit, "on_excess", "reject")
    needed = "4" if excess == "defer" else "5"
    if (match[1][0], match[2][0]) != (needed, needed):
        raise ValueError(
            f"{attribute.name}: {show(value)}: a limit that {excess}s has a reply of {needed}xx and"
            f" {needed}.x.x"
        )


def _rate_key(rate: Rate) -> tuple[int, int, bool]:
    return rate.amount, window_ms(rate), isinstance(rate, CalendarRate)


def _zone_key(zone: str | None) -> str:
    return "UTC" if zone is None else zone


# Not a decorator of the field: type checkers would take the field as required.
def _default_scope(limit: RateLimit) -> tuple[str, ...]:
    return ("recipient",) if limit.direction == "inbound" else ("sender",)


REPLY_CODE: Final = re.compile(r"([45][0-9]{2}) ([45]\.[0-9]{1,3}\.[0-9]{1,3}) (.+)")
"""A reply with its code (RFC 5321) and enhanced status (RFC 3463); else it is the text alone."""


class BaseLimit:
    """What all kinds of limit have in common; a list of several kinds is a list of these."""

    __slots__ = ()


@attrs.frozen
class RecipientLimit(BaseLimit):
    """The most recipients that one message may have; a message with more is rejected.

    name: the name by which overrides and exemptions refer to it, such as
        `"recipients a message"`.
    count: `"all"` recipients, or only the `"external"` ones.
    reply: the text of the SMTP reply, in place of the default text; or the code, the status and the
        text: `"550 5.7.233 Too many."`.
    enforce: False makes the limit only report what it would have answered, in `Decision.shadow`.

    It does not apply to an inbound envelope, that is, to mail that arrives.
    """

    limit: int = attrs.field(validator=_amount)
    name: str | None = attrs.field(default=None, kw_only=True, validator=name_or_none)
    count: Literal["all", "external"] = attrs.field(
        default="all", kw_only=True, validator=one_of("all", "external")
    )
    reply: str | None = attrs.field(default=None, kw_only=True, validator=_reply)
    enforce: bool = attrs.field(default=True, kw_only=True, validator=flag)

    __repr__ = short_repr

    def __str__(self) -> str:
        text = f"{quantity(self.limit, _adjective(self.count) + 'recipients')} per message"
        return text if self.enforce else f"{text}, only reported"


@attrs.frozen
class MessageSizeLimit(BaseLimit):
    """The largest size that one message may have; a larger message is rejected.

    limit: a number of bytes, or a string such as `"25 MB"` (kB, MB and GB are powers of 1,000; KiB,
        MiB and GiB are powers of 1,024).
    name: the name by which overrides and exemptions refer to it, such as `"size of a message"`.
    reply: the text of the SMTP reply, in place of the default text; or the code, the status and the
        text: `"550 5.7.233 Too many."`.
    enforce: False makes the limit only report what it would have answered, in `Decision.shadow`.

    An envelope must have its `size` under a policy with this limit. It does not apply to an
    inbound envelope, that is, to mail that arrives.
    """

    count: ClassVar[Literal["all"]] = "all"  # as the other limits; a size has no recipients

    limit: int = attrs.field(converter=parse_size)
    name: str | None = attrs.field(default=None, kw_only=True, validator=name_or_none)
    reply: str | None = attrs.field(default=None, kw_only=True, validator=_reply)
    enforce: bool = attrs.field(default=True, kw_only=True, validator=flag)

    __repr__ = short_repr

    def __str__(self) -> str:
        text = f"{size_text(self.limit)} per message"
        return text if self.enforce else f"{text}, only reported"


@attrs.frozen
class RateLimit(BaseLimit):
    """The most that any window of a given length may hold; use one of the three subclasses.

    rate: a number and a length of time, such as `"30/minute"` or `"50 per 15 minutes"`, or a
        `limits.RateLimitItem`. `"500/calendar day"` limits each day, from one midnight to the next:
        the count begins again at midnight. `"calendar hour"` and `"calendar month"` are possible
        too.
    time_zone: for a calendar rate, the zone whose midnight it is, such as `"Europe/Berlin"`;
        default: `"UTC"`. Other zones need the system's table of time zones, or the package
        `tzdata`.
    name: the name by which overrides and exemptions refer to it, such as `"messages a minute"`.
    direction: `"outbound"` limits what the policy's own users send; `"inbound"` limits what
        arrives in mailboxes of the policy's internal domains, from any sender. If the policy does
        not name domains, every recipient of an inbound envelope is a mailbox, and no recipient of
        an outbound envelope is.
    share: the limit is this share of the rate, rounded down: 0.33 of `"3600/hour"` is 1188.
    scope: what the limit is counted per: `sender`, `client`, `user`, `submitter`, `sender_domain`,
        `recipient`, `recipient_domain`, `global`, or several together; default: `sender`, or
        `recipient` for an inbound limit. Envelopes without a value for the scope, such as the
        client's address, share one count. The submitter is the login; without one the sender; and
        for a bounce without a login the client.
    count: `"all"` recipients, or only the `"external"` ones.
    denied: `"ignore"` refused attempts, or `"count"` them too, so that a sender who keeps
        trying stays blocked.
    on_excess: what happens to a message above the limit: `"defer"` (try later), `"reject"`, or
        `"block"`, which rejects it and blocks its subject until `Limiter.unblock`. Only
        `try_acquire` and `try_acquire_many` block; a message that waits does not exceed the limit.
    on_oversize: what happens to a message that costs more than the limit: `"reject"` refuses it for
        good; `"spread"` accepts it when nothing is counted, and the message then uses up the limit
        for as many windows as its cost takes: at one a second, a message to five recipients uses
        up the limit for five seconds.
    resolution: a length of time such as `"1 second"`, at most as long as the window. Messages that
        were sent within one such slot stop counting together, at the end of the slot. Memory is
        then bounded by about twice window / resolution.
    reply: the text of the SMTP reply, in place of the default text; or the code, the status and the
        text: `"550 5.7.233 Too many."`.
    enforce: False makes the limit only report what it would have answered, in `Decision.shadow`.

    Raises TypeError or ValueError that names what is wrong.
    """

    unit: ClassVar[Literal["messages", "recipients", "bytes"]]

    rate: Rate = attrs.field(converter=parse_rate, eq=_rate_key)
    name: str | None = attrs.field(default=None, kw_only=True, validator=name_or_none)
    direction: Literal["outbound", "inbound"] = attrs.field(
        default="outbound", kw_only=True, validator=one_of("outbound", "inbound")
    )
    time_zone: str | None = attrs.field(default=None, kw_only=True, eq=_zone_key)
    share: float | None = attrs.field(default=None, kw_only=True)
    scope: tuple[str, ...] = attrs.field(
        default=attrs.Factory(_default_scope, takes_self=True),
        kw_only=True,
        converter=normal_scope,
    )
    count: Literal["all", "external"] = attrs.field(
        default="all", kw_only=True, validator=one_of("all", "external")
    )
    denied: Literal["ignore", "count"] = attrs.field(
        default="ignore", kw_only=True, validator=one_of("ignore", "count")
    )
    on_excess: Literal["defer", "reject", "block"] = attrs.field(
        default="defer", kw_only=True, validator=one_of("defer", "reject", "block")
    )
    on_oversize: Literal["reject", "spread"] = attrs.field(
        default="reject", kw_only=True, validator=one_of("reject", "spread")
    )
    resolution: str | None = attrs.field(default=None, kw_only=True)
    reply: str | None = attrs.field(default=None, kw_only=True, validator=_reply)
    enforce: bool = attrs.field(default=True, kw_only=True, validator=flag)
    limit: int = attrs.field(init=False, repr=False, eq=False)
    """The most that any window holds."""
    slot: int = attrs.field(init=False, repr=False, eq=False)
    """The resolution in milliseconds."""
    calendar: Calendar | None = attrs.field(init=False, repr=False, eq=False)
    """The calendar of a calendar rate."""

    @count.validator
    def _no_external(self, _: object, value: object) -> None:
        if value == "external" and self.direction == "inbound":
            raise ValueError(
                "count: 'external' is for outbound limits; an inbound limit counts what arrives"
                " in mailboxes, which are internal"
            )

    @on_excess.validator
    def _can_block(self, _: object, value: object) -> None:
        if value == "block" and (self.direction == "inbound" or is_per_recipient(self.scope)):
            raise ValueError(
                "on_excess: 'block' stops those who send, so it is for outbound limits per sender,"
                f" client, user or domain; not for {self.direction} limits per"
                f" {' and '.join(self.scope)}"
            )

    @on_oversize.validator
    def _can_spread(self, _: object, value: object) -> None:
        if value == "spread" and isinstance(self.rate, CalendarRate):
            raise ValueError(
                "on_oversize: 'spread' is for rates such as '30/minute', whose windows slide; not"
                f" for a rate per {window_text(self.rate)}"
            )

    @limit.default
    def _limit(self) -> int:
        amount: int = self.rate.amount
        if self.share is None:
            return amount
        if isinstance(self.share, bool) or not isinstance(self.share, int | float):
            raise TypeError(f"share: a number such as 0.33 is needed, not {show(self.share)}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share: {show(self.share)} is not above 0 and at most 1")
        from fractions import Fraction  # slow to import, and few limits have a share

        limit = int(amount * Fraction(str(self.share)))  # exact for the decimal that was written
        if limit < 1:
            raise ValueError(f"share: {show(self.share)} of {amount} lets nothing through")
        return limit

    @slot.default
    def _slot(self) -> int:
        if self.resolution is None:
            return 1
        slot = parse_length(self.resolution)
        if slot > self.window:
            raise ValueError(
                f"resolution: {show(self.resolution)} is longer than the window of {self.rate}"
            )
        return slot

    @calendar.default
    def _calendar(self) -> Calendar | None:
        if isinstance(self.rate, CalendarRate):
            zone: object = _zone_key(self.time_zone)
            if not isinstance(zone, str):
                raise TypeError(
                    f"time_zone: a name such as 'Europe/Berlin' is needed, not {show(zone)}"
                )
            from ratelimit_mail.calendars import calendar_of  # few limits have a calendar

            return calendar_of(self.rate.unit, zone)
        if self.time_zone is not None:
            raise ValueError(
                f"time_zone: {show(self.time_zone)} is for a rate such as '500/calendar day'; the"
                f" window of {self.rate} slides, so it has no midnight"
            )
        return None

    @property
    def window(self) -> int:
        """The length of the window in milliseconds; of a calendar month, that of 31 days."""
        return window_ms(self.rate)

    def renewed_at(self, moment: int) -> int:
        """Return when all is free again that is used up at `moment`, in milliseconds of the epoch.

        That is a window later; for a calendar rate, the beginning of the next period.
        """
        if self.calendar is None:
            return moment + self.window
        return self.calendar.period(moment)[1]

    __repr__ = short_repr

    def __str__(self) -> str:
        text = (
            f"{self._amount()} per {self.calendar or window_text(self.rate)}"
            f" per {' and '.join(self.scope).replace('_', ' ')}"
        ).replace(" per global", " in all")
        return text if self.enforce else f"{text}, only reported"

    @property
    def is_unique(self) -> bool:
        """Whether a recipient counts once in a window."""
        return False

    @property
    def counted(self) -> str:
        """The unit in words: `"messages"`, `"recipients"`, `"unique recipients"` or `"bytes"`."""
        return f"unique {self.unit}" if self.is_unique else self.unit

    def _amount(self) -> str:
        kind = "received " if self.direction == "inbound" else _adjective(self.count)
        return quantity(self.limit, ("unique " if self.is_unique else "") + kind + self.unit)


class RateLimitOptions(TypedDict, total=False):
    """The arguments that every rate limit has beside its rate; see `RateLimit`."""

    name: str | None
    direction: Literal["outbound", "inbound"]
    time_zone: str | None
    share: float | None
    scope: str | Iterable[str]
    count: Literal["all", "external"]
    denied: Literal["ignore", "count"]
    on_excess: Literal["defer", "reject", "block"]
    on_oversize: Literal["reject", "spread"]
    resolution: str | None
    reply: str | None
    enforce: bool


@with_arguments_of(RateLimit)
class MessageRateLimit(RateLimit):
    """The most messages in any window.

    With `count="external"`, only messages with an external recipient count. `RateLimit` explains
    all arguments.
    """

    __slots__ = ()
    unit = "messages"


@with_arguments_of(RateLimit)
@attrs.frozen(repr=False, str=False)
class RecipientRateLimit(RateLimit):
    """The most recipients in any window; each counted recipient of a message costs one.

    unique: True counts each recipient once in a window, however many messages go to it. A recipient
        counts until one window after the last message to it. Addresses are compared as the policy
        compares them, and an alias is its owner.

    `RateLimit` explains all other arguments.
    """

    unit = "recipients"

    unique: bool = attrs.field(default=False, kw_only=True, validator=flag)

    @unique.validator
    def _can_be_unique(self, _: object, unique: object) -> None:
        if unique is not True:
            return
        if "recipient" in self.scope:
            raise ValueError(
                f"unique: a limit per {' and '.join(self.scope)} has one recipient for each count;"
                " count them per sender, client, user or domain"
            )
        for field, value, reason in (
            ("denied", self.denied, "an attempt that is refused has reached no recipient"),
            ("on_oversize", self.on_oversize, "different recipients cannot be spread over time"),
            ("resolution", self.resolution, "each recipient has its own moment"),
        ):
            if value in {"count", "spread"} or (field == "resolution" and value is not None):
                raise ValueError(f"unique: it cannot have {field}={show(value)}: {reason}")

    @property
    def is_unique(self) -> bool:
        """Whether a recipient counts once in a window."""
        return self.unique


@with_arguments_of(RateLimit)
class ByteRateLimit(RateLimit):
    """The most bytes in any window; each message costs its size, however many recipients it has.

    The rate may have a unit: `ByteRateLimit("500 MB/day")`; kB, MB and GB are powers of 1,000, and
    KiB, MiB and GiB are powers of 1,024. With `count="external"`, only messages with an external
    recipient count. An envelope must have its `size` under a policy with this limit. `RateLimit`
    explains all arguments.
    """

    __slots__ = ()
    unit = "bytes"

    def __init__(self, rate: str | Rate, **options: Unpack[RateLimitOptions]) -> None:
        super().__init__(parse_byte_rate(rate), **options)

    def _amount(self) -> str:
        kind = "received mail" if self.direction == "inbound" else f"{self.count} mail"
        return size_text(self.limit) + (f" of {kind}" if kind != "all mail" else "")


Limit = RecipientLimit | MessageSizeLimit | RateLimit


def _adjective(count: str) -> str:
    return "external " if count == "external" else ""


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
