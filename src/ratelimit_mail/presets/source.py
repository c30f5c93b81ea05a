"""Describe where the figures of a preset come from, and how far they can be trusted."""

from __future__ import annotations

from datetime import date

import attrs

__all__ = ["Source"]


@attrs.frozen(kw_only=True)
class Source:
    """The origin of the figures of a preset.

    institution: the institution that has these limits.
    pages: the titles of the pages that state them.
    read: the date on which the pages were read.
    unconfirmed: what no page states, or was not seen on the institution's own pages.
    left_out: what the pages state but the preset does not implement.
    """

    institution: str
    pages: tuple[str, ...]
    read: date
    unconfirmed: str | None = None
    left_out: str | None = None
