"""The three kinds of limit: their numbers, what they count, and what excess means."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import attrs

from ratelimit_mail.choices import one_of
from ratelimit_mail.rates import MOST, how_many, in_words, parse_length, parse_rate, window_of
from ratelimit_mail.showing import show
from ratelimit_mail.subjects import normal_scope

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

    count: `"all"` recipients, or only the `"external"` ones.
    reply: the text of the SMTP reply, where the default one does not do.
    """

    limit: int = attrs.field(validator=_whole)
    count: Literal["all", "external"] = attrs.field(
        default="all", kw_only=True, validator=one_of("all", "external")
    )
    reply: str | None = attrs.field(default=None, kw_only=True, validator=_reply)

    def __str__(self) -> str:
        return f"{how_many(self.limit, _prefix(self.count) + 'recipients')} per message"


@attrs.frozen
class RateLimit:
    """The most of something in any window of a given length; use one of its two kinds.

    rate: how many in how long, as in `"30/minute"`, `"50 per 15 minutes"`, or a
        `limits.RateLimitItem`.
    scope: what it is counted per, `sender`, `client`, `user`, `sender_domain`,
        `recipient`, `recipient_domain`, `global`, or several together. What an envelope
        does not tell (a client's address, say) is a subject of its own, shared by all
        that do not tell it.
    count: `"all"` recipients, or only the `"external"` ones.
    denied: `"ignore"` refused attempts, or `"count"` them too, so that one who keeps
        trying stays blocked.
    on_excess: what a message above it meets: `"defer"` (try later) or `"reject"`.
    resolution: a length of time such as `"1 second"`, at most the window's. What was sent
        within one such slot leaves together at the slot's end: memory is then bounded by about
        twice window / resolution.
    reply: the text of the SMTP reply, where the default one does not do.

    Raises TypeError or ValueError that names what is wrong.
    """

    unit: ClassVar[Literal["messages", "recipients"]]

    rate: RateLimitItem = attrs.field(
        converter=parse_rate, eq=lambda rate: (rate.amount, window_of(rate))
    )
    scope: tuple[str, ...] = attrs.field(default="sender", kw_only=True, converter=normal_scope)
    count: Literal["all", "external"] = attrs.field(
        default="all", kw_only=True, validator=one_of("all", "external")
    )
    denied: Literal["ignore", "count"] = attrs.field(
        default="ignore", kw_only=True, validator=one_of("ignore", "count")
    )
    on_excess: Literal["defer", "reject"] = attrs.field(
        default="defer", kw_only=True, validator=one_of("defer", "reject")
    )
    resolution: str | None = attrs.field(default=None, kw_only=True)
    reply: str | None = attrs.field(default=None, kw_only=True, validator=_reply)
    slot: int = attrs.field(init=False, repr=False, eq=False)
    """The resolution in milliseconds."""

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
    def limit(self) -> int:
        """The most that any window holds."""
        return self.rate.amount

    @property
    def window(self) -> int:
        """The length of the window in milliseconds."""
        return window_of(self.rate)

    def __str__(self) -> str:
        return (
            f"{how_many(self.limit, _prefix(self.count) + self.unit)} per {in_words(self.rate)}"
            f" per {' and '.join(self.scope).replace('_', ' ')}"
        ).replace(" per global", " in all")


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
