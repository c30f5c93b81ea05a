"""Source: where the figures of a preset come from, and how far they can be trusted."""

from __future__ import annotations

from datetime import date

import attrs

__all__ = ["Source"]


@attrs.frozen(kw_only=True)
class Source:
    """Where the figures of a preset come from.

    institution: whose limits they are.
    pages: the titles of the pages that state them.
    read: when they were seen.
    unconfirmed: what of the preset no page says, or could not be seen on the institution's own.
    left_out: what the pages say that the preset does not do.
    """

    institution: str
    pages: tuple[str, ...]
    read: date
    unconfirmed: str | None = None
    left_out: str | None = None
