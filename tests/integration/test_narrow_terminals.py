"""The command on a terminal of 40 columns: no word is broken, and no column is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ratelimit_mail import Envelope, Limiter, presets
from ratelimit_mail.backends import SQLiteBackend
from ratelimit_mail.cli.command import command
from ratelimit_mail.cli.tables import FittedTable, print_table
from ratelimit_mail.outbox import Outbox

SENDER = "a-very-long-name-of-one-of-the-senders@mail.example.org"


def run(*arguments: object, columns: int = 40) -> str:
    """Run the command, and return what it prints."""
    runner = CliRunner(env={"COLUMNS": str(columns)})
    result = runner.invoke(command, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def commands(group: click.Group, *names: str) -> Iterator[tuple[str, ...]]:
    yield names
    for name, each in group.commands.items():
        if isinstance(each, click.Group):
            yield from commands(each, *names, name)
        else:
            yield *names, name


@pytest.mark.parametrize("names", [pytest.param(x, id=" ".join(x)) for x in commands(command)])
def test_help_has_the_same_words_at_any_width(names: tuple[str, ...]) -> None:
    narrow = run(*names, "--help")
    assert narrow.split() == run(*names, "--help", columns=200).split()
    lines = narrow.split("Columns of a CSV")[0].splitlines()
    long = [line for line in lines if len(line) > 40 and len(line.split()) > 2]
    assert long == []


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A store in which a sender with a long name sent a message, and is blocked."""
    file = tmp_path / "counts.db"
    backend = SQLiteBackend(file)
    limiter = Limiter(presets.leeds_office365(), backend)
    limiter.try_acquire(Envelope(SENDER, ["bob@example.com"]))
    limiter.block(SENDER, reason="sends far too much")
    yield file
    backend.close()


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("top", ("used", "of the limit", "resets in")),
        ("blocks", ("scope", "since (UTC)", "until (UTC)", "reason")),
    ],
)
def test_each_column_of_live_counts_is_shown(
    store: Path, name: str, columns: tuple[str, ...]
) -> None:
    printed = run(name, "--store", f"sqlite:///{store}", "--policy", "leeds-office365")
    assert f"subject:\n  {SENDER}\n" in printed
    assert all(f"\n  {column}: " in printed for column in columns)


def test_each_column_of_an_outbox_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "outbox.db"
    outbox = Outbox(file, Limiter(presets.leeds_office365()))
    message = EmailMessage()
    message["From"], message["To"] = SENDER, "bob@example.com"
    outbox.put(message)
    outbox.close()
    printed = run("outbox", "list", file)
    assert f"\n  sender:\n    {SENDER}\n" in printed
    for name in ("id", "  state", "  put (UTC)", "  next (UTC)", "  recipients"):
        assert f"{name}: " in printed
    assert f" {SENDER}\n" in run("outbox", "show", file, 1)


def test_plans_and_presets_have_their_names_in_one_piece() -> None:
    assert "policy: western-convergence\n" in run("plan", "--all", "--messages", 40)
    plan = run("plan", "--policy", "western-convergence", "--messages", 600)
    assert "\n  limit: 50 external recipients per 15" in plan
    assert "\n  still to go: " in plan
    assert "campus_networks," in run("presets", "western-convergence")


words = st.text("ab@-.é漢", min_size=1, max_size=30)
texts = st.lists(words, max_size=4).map(" ".join)


@settings(max_examples=60)
@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=3), st.integers(10, 90))
def test_no_word_of_a_table_is_broken_or_lost(rows: list[tuple[str, ...]], width: int) -> None:
    for right, has_header in (((), True), (("two",), True), ((), False)):
        table = FittedTable("one", "two", "three", right=right, has_header=has_header)
        for row in rows:
            table.add_row(*row)
        console = Console(width=width, color_system=None)
        with console.capture() as captured:
            print_table(table, console)
        printed = Counter(captured.get().split())
        assert printed >= Counter(word for row in rows for text in row for word in text.split())
