"""The man page of the command, made from its help; the build of a wheel writes it.

`python -m ratelimit_mail.cli.man_page VERSION` prints it.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Final

import click

import ratelimit_mail
from ratelimit_mail.cli.command import command

__all__ = ["EXIT_CODES", "man_page"]

EXIT_CODES: Final = (
    (
        0,
        "The command did what it says; for replay, also if messages were refused; for serve and"
        " outbox run, also after a signal.",
    ),
    (
        1,
        "unblock: there was no block. outbox run --until-empty: a message failed or may have been"
        " sent. Any command: the output was closed.",
    ),
    (
        2,
        "An option, a file, a policy or the store cannot be used; one or more lines on stderr say"
        " why.",
    ),
    (130, "Interrupted by Ctrl-C."),
    (143, "outbox run --until-empty: ended by SIGTERM while messages were queued."),
)

_BLANK_LINES: Final = re.compile(r"\n[ \t]*+\n\s*+")


def man_page(release: str) -> str:
    """Return the man page as roff. release: the version of the library."""
    with click.Context(command, info_name="ratelimit-mail") as context:
        lines = [
            f'.TH RATELIMIT-MAIL 1 "" "ratelimit-mail {_escaped(release)}" "User Commands"',
            ".SH NAME",
            r"ratelimit\-mail \- sending limits for e\-mail",
            ".SH SYNOPSIS",
            r".B ratelimit\-mail",
            ".I command",
            "[options] [arguments]",
            ".SH DESCRIPTION",
            *_text(command.help),
            ".PP",
            "Each command has the option",
            r".BR \-\-help .",
            ".SH COMMANDS",
            *_commands(context),
        ]
    lines += [".SH ENVIRONMENT", ".TP", ".B RATELIMIT_MAIL_STORE"]
    lines += ["The URL of the store, for commands without", r".BR \-\-store ."]
    lines += [".TP", ".B RATELIMIT_MAIL_ALERTS"]
    lines += ["The file with the tables [alerts] and [metrics], for commands without"]
    lines += [r".BR \-\-alerts ."]
    lines += [".SH EXIT STATUS"]
    for code, meaning in EXIT_CODES:
        lines += [".TP", f".B {code}", _escaped(meaning)]
    return "\n".join(lines) + "\n"


def _commands(context: click.Context) -> Iterator[str]:
    """Yield the lines for each command of a group, and of the groups in it."""
    group = context.command
    assert isinstance(group, click.Group)  # noqa: S101 - the callers see to it
    for name in group.list_commands(context):
        each = group.commands[name]
        with click.Context(each, info_name=name, parent=context) as inner:
            words = " ".join(
                [inner.command_path.partition(" ")[2], *each.collect_usage_pieces(inner)]
            )
            yield f'.SS "{_escaped(words)}"'
            yield from _text(each.help)
            for parameter in each.params:
                record = parameter.get_help_record(inner)
                if record is not None and record[1]:
                    yield from (".TP", rf"\fB{_escaped(record[0])}\fR", _escaped(record[1]))
            yield from _text(each.epilog)
            if isinstance(each, click.Group):
                yield from _commands(inner)


def _text(text: str | None) -> Iterator[str]:
    """Yield the paragraphs of a help text; one that begins with \\b keeps its lines."""
    if not text:
        return
    for paragraph in _BLANK_LINES.split(inspect.cleandoc(text)):
        yield ".PP"
        if paragraph.startswith("\b"):
            yield ".nf"
            yield from map(_escaped, paragraph.lstrip("\b\n").splitlines())
            yield ".fi"
        else:
            yield _escaped(" ".join(paragraph.split()))


def _escaped(text: str) -> str:
    """Return text of which roff takes no character for a command."""
    plain = text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")
    return rf"\&{plain}" if plain.startswith((".", "'")) else plain


if __name__ == "__main__":
    click.echo(
        man_page(sys.argv[1] if len(sys.argv) > 1 else str(ratelimit_mail.__version__)), nl=False
    )
