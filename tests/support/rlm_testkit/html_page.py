"""HtmlPage: a report as a browser parses it, and what every report has to be."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from typing import Final

__all__ = ["HtmlPage", "assert_accessible", "assert_self_contained"]

VOID: Final = {"meta", "br", "hr", "img", "input", "link"}


class HtmlPage(HTMLParser):
    """A page. Raises AssertionError if an element is not closed, or closed in the wrong order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.rows: list[list[str]] = []
        """The cells of each row of a table; text under the pointer is left out."""
        self.titles: list[str] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open.pop() == tag, (tag, self._open)

    def handle_data(self, data: str) -> None:
        data = data.replace("\N{NO-BREAK SPACE}", " ")
        if self._open[-1:] == ["style"]:
            return
        if self._open[-1:] == ["script"]:
            self.scripts.append(data)
            return
        if self._open[-1:] == ["title"]:
            self.titles.append(data)
            return
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data}".strip()
        self.text.append(data)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of each element with this tag."""
        return [attrs for name, attrs in self.tags if name == tag]

    def values(self, attribute: str) -> list[str]:
        """Return the values of an attribute of any element."""
        return [str(attrs[attribute]) for _, attrs in self.tags if attribute in attrs]

    @property
    def words(self) -> str:
        """The text that is shown, without line breaks."""
        return " ".join(" ".join(self.text).split())


def assert_self_contained(page: HtmlPage) -> None:
    """Check that a page loads nothing, and that its only script is the one of the reports."""
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"link", "img", "image", "iframe", "object", "embed", "base", "use"}
    assert not page.values("src")
    assert not [each for _, attrs in page.tags for each in attrs if each.startswith("on")]
    assert all(each.startswith("#") for each in page.values("href"))
    assert "url(" not in page.source
    assert "@import" not in page.source
    assert "://" not in page.source
    script = files("ratelimit_mail.cli.html").joinpath("templates/page.js").read_text("utf-8")
    assert ["".join(page.scripts).strip()] == [script.strip()]
    assert len(page.attributes("script")) == 1


def assert_accessible(page: HtmlPage) -> None:
    """Check the language, the headings, the heads of tables, and the texts of charts."""
    assert page.attributes("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    for reference in [*page.values("aria-labelledby"), *(x[1:] for x in page.values("href"))]:
        assert set(reference.split()) <= set(ids), reference
    tables = page.attributes("table")
    assert len(page.attributes("caption")) == len(tables)
    assert all(attrs.get("scope") in ("col", "row") for attrs in page.attributes("th"))
    charts = [each for each in page.attributes("svg") if each.get("aria-hidden") != "true"]
    assert all(each["role"] == "img" and each["aria-labelledby"] for each in charts)
    assert len(page.attributes("desc")) == len(charts)
