"""Page: what a report consists of, and how it becomes one HTML file.

Every block of a section names the template that renders it. Text is escaped by the templates, so
blocks hold it as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs
from jinja2 import Environment, PackageLoader, StrictUndefined

from ratelimit_mail.cli.html import palette

__all__ = ["Block", "KeyFigure", "Page", "Section", "render"]


class Block(Protocol):
    """A table, a chart or a calendar."""

    @property
    def template(self) -> str:
        """The name of its template, which finds it as `block`."""
        ...

    @property
    def wide(self) -> bool:
        """Whether it takes the whole width of the page."""
        ...


@attrs.frozen
class KeyFigure:
    """A number that stands out: its name, its value, and a note."""

    name: str
    value: str
    note: str = ""


@attrs.frozen
class Section:
    """A section of the page: sentences, then blocks."""

    title: str
    sentences: Sequence[str] = ()
    blocks: Sequence[Block] = ()


@attrs.frozen
class Page:
    """A whole report. subtitle: what it is about, below its title."""

    title: str
    subtitle: str
    summary: Sequence[str]
    key_figures: Sequence[KeyFigure]
    sections: Sequence[Section]


def render(page: Page) -> str:
    """Return the page as a string, the same for the same data."""
    environment = Environment(
        loader=PackageLoader("ratelimit_mail.cli.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tidy"] = _tidy
    template = environment.get_template("page.html.j2")
    return template.render(page=page, light=palette.LIGHT, dark=palette.DARK)


def _tidy(text: str) -> str:
    """Return `text` so that no line ends between a number and its percent sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")
