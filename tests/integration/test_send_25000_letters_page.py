"""The page `send-25000-letters.md`: its commands run in its order and print what it says."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
from rlm_testkit.command_line import run_command

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/send-25000-letters.md").read_text(encoding="utf-8")
SERVER = re.compile(r"--smtp \S+ --password-file \S+")
NUMBERS = re.compile(r"(\d+ d )?\d[\d,]*([-:]\d+)*")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """Return each command with what the page prints below it."""
    result = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            result.append((line, output))
    return result


def shape(output: str) -> list[str]:
    """Return the lines of an output without its numbers, which depend on the number of people."""
    lines = [" ".join(NUMBERS.sub("N", line).split()) for line in output.splitlines()]
    return [re.sub(r"\bletters?\b|\bmessages?\b", "item", line) for line in lines]


def test_the_commands_of_the_page_work_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    [people] = blocks("csv")
    letter = next(block for block in blocks("text") if block.startswith("TO:"))
    Path("people.csv").write_text(people)
    Path("letter.txt").write_text(letter)
    [program] = blocks("py")
    Path("rest.py").write_text(program)
    store = None
    for line, expected in commands():
        name, *arguments = shlex.split(SERVER.sub("--maildir mail", line))
        if name == "export":
            store = arguments[0].partition("=")[2]
            monkeypatch.setenv("RATELIMIT_MAIL_STORE", store)
            continue
        if name == "python":
            runpy.run_path(arguments[0])
            assert Path("rest.csv").read_text() == people
            continue
        assert name == "ratelimit-mail", line
        file = arguments.pop() if arguments[-2:-1] == [">"] else None
        result = run_command(*(each for each in arguments if each != ">"))
        if file is not None:
            Path(file).write_text(result.stdout)
        assert result.exit_code == 0, f"{line}\n{result.output}"
        lines = shape(expected)
        if lines[-1:] == ["..."]:
            lines.pop()
            assert shape(result.stdout)[: len(lines)] == lines, line
        elif lines:
            assert shape(result.stdout) == lines, line
    assert store is not None
    assert Path("counts.db").exists()
    assert len(list(Path("preview").iterdir())) == 3
    [test_letter] = Path("mail/new").iterdir()
    assert "\nX-Test-Of: ann@example.com\n" in test_letter.read_text()


def test_the_service_and_the_cron_line_run_the_outbox_as_the_page_does() -> None:
    [unit] = blocks("ini")
    [service] = re.findall(r"^ExecStart=\S+/ratelimit-mail (.*)$", unit, re.MULTILINE)
    [run] = [line for line, _ in commands() if line.startswith("ratelimit-mail outbox run")]
    [cron] = [block for block in blocks("text") if block.startswith("* *")]
    wanted = run.removeprefix("ratelimit-mail ")
    assert f"{service.replace('%%', '%')} --until-empty" == wanted
    assert f"/ratelimit-mail {wanted} --quiet\n" in cron.replace(r"\%", "%")


def test_the_predicted_times_are_those_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RATELIMIT_MAIL_STORE", raising=False)
    result = run_command(
        *("plan", "--policy", "leeds-office365", "--messages", "25000"),
        *("--start", "2026-11-23T09:00"),
    )
    [put] = [output for _, output in commands() if "\nlast " in output]
    for line in put.splitlines()[1:-1]:
        assert line.split() in [each.split() for each in result.stdout.splitlines()]
