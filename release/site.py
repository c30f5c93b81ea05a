"""Finish the site: check its links, and write `llms.txt`, the list of its pages for programs.

`python -m release.site site` does it after the build.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

ROOT: Final = Path(__file__).resolve().parents[1]


class _Page(HTMLParser):
    """The links of a page, and the places in it that links can lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name in ("href", "src") and tag != "base":
                self.addresses.append(value)
            elif name == "id" or (name == "name" and tag == "a"):
                self.places.add(value)


def broken_links(site: Path) -> Iterator[str]:
    """Yield each link within the site that leads nowhere, with its page."""
    pages: dict[Path, _Page] = {}
    for file in sorted(site.rglob("*.html")):
        pages[file] = page = _Page()
        page.feed(file.read_text(encoding="utf-8"))
    for file, page in pages.items():
        if file.name == "404.html":  # its links begin at the address of the site
            continue
        for link in page.addresses:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = file if not address.path else (file.parent / unquote(address.path)).resolve()
            target = target / "index.html" if target.is_dir() else target
            place = unquote(address.fragment)
            if not target.is_file():
                yield f"{file.relative_to(site)}: {link}: there is no such file"
            elif place and target in pages and place not in pages[target].places:
                yield f"{file.relative_to(site)}: {link}: there is no such place in it"


_ENTRY: Final = re.compile(r"^( +)- (.+?):(?: (\S+\.md))?$", re.MULTILINE)
_SETTING: Final = re.compile(r"^(site_\w+): (.+)$", re.MULTILINE)


def llms_text(config: str, docs: Path) -> str:
    """Return the text of `llms.txt`: the pages in the order of the menu, with their first sentence.

    config: the text of mkdocs.yml, whose menu has an entry in each line.
    """
    settings = dict(_SETTING.findall(config))
    lines = [f"# {settings['site_name']}", "", f"> {settings['site_description']}"]
    menu = config.partition("\nnav:\n")[2].partition("\n\n")[0]
    for indent, title, page in _ENTRY.findall(menu):
        if len(indent) == 2:
            lines += ["", f"## {title}", ""]
        if page:
            address = page.removesuffix(".md") + ".html"
            sentence = _first_sentence((docs / page).read_text(encoding="utf-8"))
            name = title.removeprefix("… ")
            lines.append(f"- [{name}]({address}){f': {sentence}' if sentence else ''}")
    return "\n".join([*lines, ""])


_LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_SENTENCE: Final = re.compile(r"(.+?[.:])(?:\s|$)", re.DOTALL)


def _first_sentence(page: str) -> str:
    """Return the first sentence below the heading of a page, without links; "" if there is none."""
    for paragraph in page.split("\n\n"):
        text = paragraph.strip()
        if text and not text.startswith(("#", ":::", "```", "|", "!", "-", "<")):
            sentence = _SENTENCE.match(_LINK.sub(r"\1", text))
            return " ".join((sentence[1] if sentence else text).split())
    return ""


def main(arguments: list[str]) -> int:
    """Check the links of the site, and write `llms.txt` into it."""
    site = Path(arguments[0]).resolve()
    text = llms_text((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), ROOT / "docs")
    (site / "llms.txt").write_text(text, encoding="utf-8")
    broken = list(broken_links(site))
    print("\n".join(broken) or f"All links within {site.name} lead somewhere.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
