"""Describe where each figure of a preset comes from, and how far it can be trusted."""

from __future__ import annotations

from datetime import date

import attrs

__all__ = ["Figure", "Page", "Source"]


@attrs.frozen(kw_only=True)
class Page:
    """A page that states figures.

    title: the title of the page. address: its URL; None if only a saved text of it is known.
    read: the date on which it was read, or a stored copy of it.
    second_hand: True if a copy on another site, or a report about the page, was read in its place.
    """

    title: str
    address: str | None = None
    read: date
    second_hand: bool = False


@attrs.frozen(kw_only=True)
class Figure:
    """One figure that a page states.

    value: the number. unit: what it counts, as in `"messages a minute, for each mailbox"`.
    limit: the name of the preset's limit with this figure; None for a figure that the preset does
        not enforce, and then `note` says why, or which parameter sets it.
    pages: the pages that state it: first the number, then its window or its refusal.
    refusal: what the institution answers above it: an SMTP reply, or the status of HTTP. None if
        the page does not say.
    note: what a reader has to know in addition.

    Raises ValueError for a figure without a page, and for one without a limit and without a note.
    """

    value: int
    unit: str
    pages: tuple[Page, ...]
    limit: str | None = None
    refusal: str | None = None
    note: str | None = None

    def __attrs_post_init__(self) -> None:
        if not self.pages:
            raise ValueError("pages: a figure needs a page that states it")
        if self.limit is None and not self.note:
            raise ValueError("note: a figure without a limit needs a note that says why")

    def __str__(self) -> str:
        return f"{self.value:,} {self.unit}"


@attrs.frozen(kw_only=True)
class Source:
    """The origin of the figures of a preset.

    institution: the institution that has these limits.
    figures: each figure, with its page.
    unconfirmed: what no page states, or was not seen on the institution's own pages.
    left_out: what the pages state but the preset does not implement.
    """

    institution: str
    figures: tuple[Figure, ...]
    unconfirmed: str | None = None
    left_out: str | None = None

    @property
    def pages(self) -> tuple[Page, ...]:
        """The pages that state the figures, each once."""
        return tuple(dict.fromkeys(page for figure in self.figures for page in figure.pages))

    @property
    def read(self) -> date:
        """The date on which the page that was read last was read."""
        return max(page.read for page in self.pages)

    def of_limit(self, name: str | None, value: int) -> Figure | None:
        """Return the figure of the limit with this name and number; None if there is none.

        name, value: of the limit.
        """
        for figure in self.figures:
            if name is not None and (figure.limit, figure.value) == (name, value):
                return figure
        return None
