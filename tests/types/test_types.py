"""Types as users see them: mypy --strict and pyright on the pages' code and on example calls."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.type_checkers import CHECKERS, ROOT, Finding, check, write_page

HERE = Path(__file__).parent
RIGHT, WRONG = HERE / "right_calls.py", HERE / "wrong_calls.py"

SERVERS = (
    "from rlm_testkit.proxy import Proxy; from rlm_testkit.servers import Server;"
    " server = Server(''); wire = Proxy(0)"
)
"""What `conftest.py` runs docs/outages.md with."""

PAGE_NAMES = {"outages.md": SERVERS, "django.md": "from pathlib import Path; BASE_DIR = Path()"}
"""What `conftest.py` defines for the blocks of a page."""

checker_marks = [
    pytest.mark.types,
    pytest.mark.timeout(900),
    pytest.mark.parametrize("checker", CHECKERS),
]


def checked(function: Any) -> Any:
    for mark in checker_marks:
        function = mark(function)
    return function


def pages() -> list[Path]:
    """Return the pages with Python code."""
    candidates = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [page for page in candidates if "```python" in page.read_text(encoding="utf-8")]


@checked
def test_the_code_of_every_page_passes(checker: str, tmp_path: Path) -> None:
    modules = [write_page(page, tmp_path, PAGE_NAMES.get(page.name, "")) for page in pages()]
    assert len(modules) > 15
    assert check(checker, modules, tmp_path) == []


@checked
def test_calls_that_work_pass_and_each_wrong_call_is_reported(checker: str, tmp_path: Path) -> None:
    copies = [Path(shutil.copy(file, tmp_path)) for file in (RIGHT, WRONG)]
    findings = check(checker, copies, tmp_path)
    assert [each for each in findings if each.file == RIGHT.name] == []
    reported = {each.line for each in findings if each.file == WRONG.name}
    wrong = wrong_lines()
    assert not_reported(reported) == []
    assert [each for each in findings if each.file == WRONG.name and each.line not in wrong] == []


def wrong_lines() -> dict[int, str]:
    """Return the wrong calls by line."""
    lines = WRONG.read_text(encoding="utf-8").splitlines()
    return {i: line for i, line in enumerate(lines, start=1) if line.endswith("  # wrong")}


def not_reported(reported: set[int]) -> list[str]:
    return [line for i, line in wrong_lines().items() if i not in reported]


@checked
def test_a_checker_that_did_not_run_is_an_error(checker: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=f"{checker} failed"):
        check(checker, [tmp_path / "missing.py"], tmp_path)


@checked
def test_an_error_on_a_page_is_reported_with_its_line(checker: str, tmp_path: Path) -> None:
    page = tmp_path / "some-page.md"
    page.write_text("# Page\n\n```python\nnumber = 5\n```\n\ntext\n\n```python\nnumber()\n```\n")
    [finding] = check(checker, [write_page(page, tmp_path)], tmp_path)
    assert isinstance(finding, Finding)
    assert (finding.file, finding.line) == ("some_page_page.py", 10)


# At run time


def test_the_right_calls_work() -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(RIGHT.read_text(encoding="utf-8"), RIGHT.name, "exec"), {"__name__": "right"})


def wrong_calls() -> Iterator[tuple[str, ast.stmt]]:
    source = WRONG.read_text(encoding="utf-8")
    wrong = wrong_lines()
    for statement in ast.parse(source).body:
        if statement.lineno in wrong:
            yield ast.unparse(statement), statement


def namespace() -> dict[str, Any]:
    """Return what the right lines of the file define."""
    names: dict[str, Any] = {"__name__": "wrong"}
    text = re.sub(r"(?m)^.*  # wrong$", "", WRONG.read_text(encoding="utf-8"))
    exec(compile(text, WRONG.name, "exec"), names)
    return names


NAMES = namespace()


@pytest.mark.parametrize("code", [code for code, _ in wrong_calls()])
def test_each_wrong_call_raises_a_clear_error(code: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        eval(compile(code, WRONG.name, "eval"), NAMES)
