"""The man page is made from the help of the command, and agrees with docs/command.md."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ratelimit_mail.cli.command import command
from ratelimit_mail.cli.man_page import EXIT_CODES, man_page

ROOT = Path(__file__).parents[2]
PAGE = man_page("1.2.3")


def names_in(group: click.Group, before: str = "") -> Iterator[str]:
    for name, each in group.commands.items():
        yield f"{before}{name}"
        if isinstance(each, click.Group):
            yield from names_in(each, f"{before}{name} ")


def test_the_page_has_a_section_for_every_command() -> None:
    sections = [
        each.replace("\\-", "-") for each in re.findall(r'^\.SS "(.+)"$', PAGE, re.MULTILINE)
    ]
    names = list(names_in(command))
    assert len(sections) == len(names)
    for name in names:
        assert [each for each in sections if each.startswith(f"{name} [")], name


def test_the_page_has_every_option() -> None:
    text = PAGE.replace("\\-", "-")
    for name in names_in(command):
        each: click.Command = command
        for word in name.split():
            assert isinstance(each, click.Group)
            each = each.commands[word]
        for option in each.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert max(option.opts, key=len) in text, (name, option.opts)
                assert option.help, (name, option.opts)


def test_the_page_names_the_version_and_the_exit_codes_of_the_documentation() -> None:
    assert '"ratelimit\\-mail 1.2.3"'.replace("\\-", "-") in PAGE.splitlines()[0]
    documented = (ROOT / "docs/command.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([0-9]+) \| (.+) \|$", documented, re.MULTILINE)
    assert [int(code) for code, _ in rows] == [code for code, _ in EXIT_CODES]
    for (_, text), (code, meaning) in zip(rows, EXIT_CODES, strict=True):
        words = [re.sub("[^a-z -]", "", each.lower()) for each in (text, meaning)]
        assert words[0] == words[1], code


def test_the_page_names_the_environment_variables_of_the_options() -> None:
    variables = set()
    for name in names_in(command):
        each: click.Command = command
        for word in name.split():
            assert isinstance(each, click.Group)
            each = each.commands[word]
        variables |= {option.envvar for option in each.params if option.envvar}
    section = PAGE.partition(".SH ENVIRONMENT")[2].partition(".SH ")[0]
    assert {f".B {each}" for each in variables} == set(
        re.findall(r"^\.B .+$", section, re.MULTILINE)
    )


def test_no_line_is_taken_for_an_unknown_request() -> None:
    requests = {line.split()[0] for line in PAGE.splitlines() if line.startswith((".", "'"))}
    assert requests <= {".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".BR", ".I", ".nf", ".fi"}


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_no_complaint() -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii"], input=PAGE, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_the_build_of_a_wheel_writes_the_page() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    build = project["tool"]["hatch"]["build"]["targets"]
    hook = build["wheel"]["hooks"]["custom"]["path"]
    assert f"/{hook}" in build["sdist"]["include"]
    source = (ROOT / hook).read_text(encoding="utf-8")
    assert "ratelimit_mail.cli.man_page" in source
    assert "share/man/man1/ratelimit-mail.1" in source
