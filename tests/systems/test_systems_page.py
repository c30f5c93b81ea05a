"""The page of the systems: it has a row for each system, and names each test of the systems."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
PAGE = (DOCS / "systems.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| S\d+ \|", line)
]
NAMED = re.findall(r"`(test_\w+)`", PAGE)


def names_here() -> list[str]:
    """Return the names of the tests of the systems; this file is about the page."""
    return [
        node.name
        for file in HERE.glob("test_*.py")
        if file != Path(__file__)
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page: its headings, as mkdocs writes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", each) for each in words}


def test_each_of_the_16_systems_has_a_row_in_order() -> None:
    assert [row[0] for row in ROWS] == [f"S{number}" for number in range(1, 17)]


def test_each_row_has_source_solution_and_tests() -> None:
    for _, source, done, shown in ROWS:
        assert len(source) > 20
        assert re.search(r"\]\(\w[\w-]*\.md", done)
        assert re.fullmatch(r"(`test_\w+` ?)+", shown)


def test_each_test_that_the_page_names_exists_and_no_two_have_one_name() -> None:
    assert set(NAMED) - set(names_here()) == set()
    assert [name for name, times in Counter(names_here()).items() if times > 1] == []


def test_each_test_of_the_systems_is_named_on_the_page_once() -> None:
    assert set(names_here()) - set(NAMED) == set()
    assert [name for name, times in Counter(NAMED).items() if times > 1] == []


def test_each_file_of_tests_is_named_and_exists() -> None:
    named = set(re.findall(r"`(test_\w+\.py)`", PAGE))
    assert named == {file.name for file in HERE.glob("test_*.py")} - {Path(__file__).name}


def test_each_link_leads_to_a_page_and_to_a_heading_of_it() -> None:
    targets = re.findall(r"\]\(([\w-]+\.md)(?:#([\w-]+))?\)", PAGE)
    assert len(targets) == PAGE.count("](") > 20
    for page, anchor in targets:
        assert (DOCS / page).is_file(), page
        assert not anchor or anchor in anchors(DOCS / page), f"{page}#{anchor}"
