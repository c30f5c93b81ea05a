"""The three kinds of limit: their numbers, what they count, and what excess means."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import attrs

from ratelimit_mail._util.text import short_repr, show
from ratelimit_mail._util.validators import flag, name_or_none, one_of
from ratelimit_mail.rates import MOST, how_many, in_words, parse_length, parse_rate, window_of
from ratelimit_mail.scopes import normal_scope

if TYPE_CHECKING:
    from limits import RateLimitItem

__all__ = [
    "Limit",
    "MessageRateLimit",
    "RateLimit",
    "RecipientLimit",
    "RecipientRateLimit",
]


def _whole(_: object, attribute: attrs.Attribute[int], value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{attribute.name}: a whole number is needed, not {show(value)}")
    if value < 1:
        raise ValueError(
            f"{attribute.name}: {show(value)} lets nothing through; at least 1 is needed"
        )
    if value > MOST:
        raise ValueError(f"{attribute.name}: {show(value)} is above the most there may be, {MOST}")


def _reply(_: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{attribute.name}: a line of text is needed, not {show(value)}")
    if not 0 < len(value) <= 400 or not value.isascii() or not value.isprintable():
        raise ValueError(
            f"{attribute.name}: {show(value)} is no line of 1 to 400 printable ASCII characters"
        )


@attrs.frozen
class RecipientLimit:
    """The most recipients that one message may have; a message above it is rejected.

    name: how overrides and exemptions call it, such as `"recipients a message"`.
    count: `"all"` recipients, or only the `"external"` ones.
    reply: the text of the SMTP reply, where the default one does not do.
    enforce: False only reports, in `Decision.shadow`, what the limit would have answered.

    Mail that arrives, an inbound envelope, has no recipient limit.
    """

    limit: int = attrs.field(validator=_whole)
    name: str | None = attrs.field(default=None, kw_only=True, validator=name_or_none)
    count: Literal["all", "external"] = attrs.field(
        default="all", kw_only=True, validator=one_of("all", "external")
    )
    reply: str | None = attrs.field(default=None, kw_only=True, validator=_reply)
    enforce: bool = attrs.field(default=True, kw_only=True, validator=flag)

    __repr__ = short_repr

    def __str__(self) -> str:
        text = f"{how_many(self.limit, _prefix(self.count) + 'recipients')} per message"
        return text if self.enforce else f"{text}, only reported"


@attrs.frozen
class RateLimit:
    """The most of something in any window of a given length; use one of its two kinds.

    rate: how many in how long, as in `"30/minute"`, `"50 per 15 minutes"`, or a
        `limits.RateLimitItem`.
    name: how overrides and exemptions call it, such as `"messages a minute"`.
    direction: `"outbound"` limits what one's own people send; `"inbound"` what arrives in
        mailboxes of the policy's internal domains, wherever it comes from. Of a policy that names
        no domains, every recipient of an inbound envelope is a mailbox, and none of an outbound.
    share: the limit is that share of the rate, rounded down: 0.33 of `"3600/hour"` is 1188.
    scope: what it is counted per, `sender`, `client`, `user`, `sender_domain`,
        `recipient`, `recipient_domain`, `global`, or several together; left out: `sender`,
        or `recipient` for an inbound limit. What an envelope
        does not tell (a client's address, say) is a subject of its own, shared by all
        that do not tell it.
    count: `"all"` recipients, or only the `"external"` ones.
    denied: `"ignore"` refused attempts, or `"count"` them too, so that one who keeps
        trying stays blocked.
    on_excess: what a message above it meets: `"defer"` (try later) or `"reject"`.
    on_oversize: what a message meets that costs more than the limit: it is refused for ever
        (`"reject"`), or it goes when nothing is counted, and then holds the limit for as many
        windows as its cost takes (`"spread"`): at one a second, a message to five goes and holds
        the next five seconds.
    resolution: a length of time such as `"1 second"`, at most the window's. What was sent
        within one such slot leaves together at the slot's end: memory is then bounded by about
        twice window / resolution.
    reply: the text of the SMTP reply, where the default one does not do.
    enforce: False only reports, in `Decision.shadow`, what the limit would have answered.

    Raises TypeError or ValueError that names what is wrong.
    """

    unit: ClassVar[Literal["messages", "recipients"]]

    rate: RateLimitItem = attrs.field(
        converter=parse_rate, eq=lambda rate: (rate.amount, window_of(rate))
    )
    name: str | None = attrs.field(default=None, kw_only=True, validator=name_or_none)
    direction: Literal["outbound", "inbound"] = attrs.field(
        default="outbound", kw_only=True, validator=one_of("outbound", "inbound")
    )
    share: float | None = attrs.field(default=None, kw_only=True)
    scope: tuple[str, ...] = attrs.field(kw_only=True, converter=normal_scope)
    count: Literal["all", "external"] = attrs.field(
        default="all", kw_only=True, validator=one_of("all", "external")
    )
    denied: Literal["ignore", "count"] = attrs.field(
        default="ignore", kw_only=True, validator=one_of("ignore", "count")
    )
    on_excess: Literal["defer", "reject"] = attrs.field(
        default="defer", kw_only=True, validator=one_of("defer", "reject")
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

    @scope.default
    def _scope(self) -> str:
        return "recipient" if self.direction == "inbound" else "sender"

    @count.validator
    def _no_external(self, _: object, value: object) -> None:
        if value == "external" and self.direction == "inbound":
            raise ValueError(
                "count: 'external' is for outbound limits; an inbound limit counts what arrives"
                " in mailboxes, which are internal"
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
        from fractions import Fraction  # slow to import, and few limits are shares

        limit = int(amount * Fraction(str(self.share)))  # of the number as it is written
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

    @property
    def window(self) -> int:
        """The length of the window in milliseconds."""
        return window_of(self.rate)

    __repr__ = short_repr

    def __str__(self) -> str:
        kind = "received " if self.direction == "inbound" else _prefix(self.count)
        text = (
            f"{how_many(self.limit, kind + self.unit)} per {in_words(self.rate)}"
            f" per {' and '.join(self.scope).replace('_', ' ')}"
        ).replace(" per global", " in all")
        return text if self.enforce else f"{text}, only reported"


class MessageRateLimit(RateLimit):
    """The most messages in any window.

    With `count="external"`, only messages with an external recipient count.
    """

    __slots__ = ()
    unit = "messages"


class RecipientRateLimit(RateLimit):
    """The most recipients in any window: a message costs as many as its counted recipients."""

    __slots__ = ()
    unit = "recipients"


Limit = RecipientLimit | RateLimit


def _prefix(count: str) -> str:
    return "external " if count == "external" else ""
