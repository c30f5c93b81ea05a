"""What is made after the build of the site: a check of its links, and `llms.txt`."""

from __future__ import annotations

from pathlib import Path

from release.site import broken_links, llms_text

ROOT = Path(__file__).parents[2]
CONFIG = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_each_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.html").write_text('<h2 id="here">B</h2><a href="../a.html#x">a</a>')
    (tmp_path / "a.html").write_text(
        '<p id="x"><a href="sub/b.html#here">1</a><a href="sub/b.html#there">2</a>'
        '<a href="c.html">3</a><img src="d.svg"><a href="#y">4</a><a href="#x">5</a>'
        '<a href="https://example.org/z">6</a><a href="sub/b%2Ehtml">7</a></p>'
    )
    assert list(broken_links(tmp_path)) == [
        "a.html: sub/b.html#there: there is no such place in it",
        "a.html: c.html: there is no such file",
        "a.html: d.svg: there is no such file",
        "a.html: #y: there is no such place in it",
    ]


def test_llms_txt_names_every_page_with_its_first_sentence() -> None:
    lines = llms_text(CONFIG, ROOT / "docs").splitlines()
    assert lines[0] == "# ratelimit-mail"
    assert lines[2].startswith("> ")
    pages = [line for line in lines if line.startswith("- [")]
    assert len(pages) == len(list((ROOT / "docs").rglob("*.md")))
    events = "This page shows how a program learns what its limiter refuses."
    assert f"- [get alerts in my program](events.html): {events}" in pages
    assert [line for line in lines if line.startswith("## ")][1:3] == [
        "## Tutorial",
        "## How do I …",
    ]
