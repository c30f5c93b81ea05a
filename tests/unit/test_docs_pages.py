"""The pages: messages that they quote exist, and each page and public name is to be found."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import attrs
import pytest

from ratelimit_mail.backends import AsyncBackend, Backend
from ratelimit_mail.counting.window import Window

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MENU = re.compile(r"^ +- .+: (\S+\.md)$", re.MULTILINE)
DIRECTIVE = re.compile(r"^::: (\S+)$", re.MULTILINE)
SHOWN = re.compile(r"""(?:^::: |": ")(ratelimit_mail[\w.]*)"?,?$""", re.MULTILINE)
MEMBERS = re.compile(r"^ +members: \[(.+)\]$", re.MULTILINE)
CELL = re.compile(r"^\| (`.+?`(?:, `.+?`)*) \|", re.MULTILINE)
NAME = re.compile(r"`(\w+)`")
QUOTED = re.compile(r"`(.+?)`")
VALUE = "…"

ADAPTERS = ("aiosmtpd", "aiosmtplib", "boto3", "celery", "django", "limits", "smtplib")
PACKAGES = (
    *("backends", "conditions", "directory", "events", "exceptions", "mailing", "monitoring"),
    *("outbox", "planner", "presets", "testing"),
    *(f"adapters.{name}" for name in ADAPTERS),
)
MODULES = ("ratelimit_mail", *(f"ratelimit_mail.{name}" for name in PACKAGES))
"""What programs import from."""

NOT_EXPLAINED = {"__version__", "presets", "PRESETS", "SOURCES"}
"""A module, and what a page of its own explains."""


def text_of(node: ast.AST) -> str | None:
    """Return the text of a string in the source, with `…` for each value in it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%\.?\d*[a-z]", VALUE, node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(each) or VALUE for each in node.values)
    return None


@cache
def texts_in_source() -> list[str]:
    trees = [ast.parse(file.read_text("utf-8")) for file in (ROOT / "src").rglob("*.py")]
    return [text for tree in trees for node in ast.walk(tree) if (text := text_of(node))]


def quoted_messages() -> Iterator[str]:
    """Yield the messages in the first cells of the tables in docs/troubleshooting.md."""
    page = (DOCS / "troubleshooting.md").read_text("utf-8").partition("## Nothing fails")[0]
    for cell in CELL.findall(page):
        yield from QUOTED.findall(cell)


def test_troubleshooting_quotes_messages() -> None:
    assert len(list(quoted_messages())) > 40


@pytest.mark.parametrize("message", list(quoted_messages()))
def test_each_message_that_troubleshooting_quotes_is_in_the_source(message: str) -> None:
    wanted = message.removesuffix(VALUE).rstrip()
    assert any(wanted in text for text in texts_in_source())


def test_every_page_is_in_the_menu_once_and_every_entry_is_a_page() -> None:
    menu = (ROOT / "mkdocs.yml").read_text("utf-8")
    entries = ["index.md", *MENU.findall(menu)]
    pages = {file.relative_to(DOCS).as_posix() for file in DOCS.rglob("*.md")}
    assert pages <= set(entries)
    assert len(entries) == len(set(entries)) + 1  # index.md


def explained_names() -> set[str]:
    """Return the names that the pages of the reference explain, without their modules."""
    pages = "\n".join(file.read_text("utf-8") for file in (DOCS / "reference").glob("*.md"))
    names = {each.rpartition(".")[2] for each in DIRECTIVE.findall(pages)}
    names.update(NAME.findall(pages))
    return names.union(*(each.split(", ") for each in MEMBERS.findall(pages)))


def public_names(module: str) -> set[str]:
    """Return `__all__` of a module, which is not imported: its library may be missing."""
    path = ROOT / "src" / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError(f"{module} has no __all__")


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_explains_every_public_name(module: str) -> None:
    assert public_names(module) - NOT_EXPLAINED - explained_names() == set()


def source_of(name: str) -> tuple[Path, str]:
    """Return the file of the module that `name` is in, and what is left of the name."""
    path, rest = ROOT / "src", name.split(".")
    while rest and (path / rest[0]).is_dir():
        path /= rest.pop(0)
    if rest and (path / f"{rest[0]}.py").exists():
        return path / f"{rest[0]}.py", ".".join(rest[1:])
    return path / "__init__.py", ".".join(rest)


def names_in(file: Path) -> set[str]:
    """Return what a module defines or imports, also for type checkers alone."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


REFERENCE = [*sorted((DOCS / "reference").glob("*.md")), DOCS / "fields.py"]


@pytest.mark.parametrize("page", REFERENCE, ids=lambda page: page.name)
def test_everything_that_the_reference_shows_is_where_it_says(page: Path) -> None:
    for shown in SHOWN.findall(page.read_text("utf-8")):
        file, name = source_of(shown)
        assert file.exists(), shown
        assert not name or name in names_in(file), shown


def first_cells(page: str, heading: str) -> list[str]:
    """Return the first words of the first cells of the table whose first heading is `heading`."""
    text = (DOCS / page).read_text("utf-8").partition(f"| {heading} | ")[2]
    return re.findall(r"^\| `(\w+)", text.partition("\n\n")[0], re.MULTILINE)


@pytest.mark.parametrize("protocol", [Backend, AsyncBackend])
def test_the_guide_to_a_backend_lists_every_method_of_the_protocol(protocol: type) -> None:
    methods = {name for name in vars(protocol) if not name.startswith("_")}
    assert set(first_cells("write-a-backend.md", "method")) == methods
    assert "twelve methods" in (DOCS / "write-a-backend.md").read_text("utf-8")
    assert len(methods) == 12


def test_the_guide_to_a_backend_lists_every_field_of_a_window() -> None:
    fields = [field.name for field in attrs.fields(Window)]
    assert first_cells("write-a-backend.md", "field") == fields
