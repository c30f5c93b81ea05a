"""Usage: how much of its limits a subject has used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ratelimit_mail.limits import RateLimit

if TYPE_CHECKING:
    from ratelimit_mail.rules import Block

__all__ = ["SubjectUsage", "Usage"]


@attrs.frozen
class Usage:
    """How much of one limit a subject has used.

    limit: the limit; one that only reports has `enforce` false, and a count of its own.
    used: what its window holds now; counted refused attempts that no longer change an answer may
        be missing.
    remaining: the most that fits now, without moving what is booked for later.
    resets_in: seconds until nothing that was sent or booked counts any more.
    block: the block of the subject, if it is blocked.
    """

    limit: RateLimit
    used: int
    remaining: int
    resets_in: float
    block: Block | None = None


@attrs.frozen(kw_only=True)
class SubjectUsage:
    """How much of its limits one subject has used.

    scope, subject: what is counted, such as `("sender",)` and an address; a tuple of values if
        the scope has several words, None for `("global",)`. An address is spelled as it is
        compared, mostly in small letters.
    share: the largest share of a limit that is used, as a fraction of 1. It may be above 1, because
        refused attempts may count, and because a limit may have been lowered.
    usages: of each limit, as `Limiter.usage` returns them.
    """

    scope: tuple[str, ...]
    subject: str | tuple[str, ...] | None
    share: float
    usages: tuple[Usage, ...]

    @property
    def block(self) -> Block | None:
        """The block of the subject, if it is blocked."""
        return next((each.block for each in self.usages), None)
