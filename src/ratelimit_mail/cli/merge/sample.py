"""The sample files that `merge --sample` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.errors import CommandError

__all__ = ["write_sample"]

LETTER: Final = """\
TO: {{ name }} <{{ email }}>
SUBJECT: Your number
FROM: Ann Smith <ann@example.com>

Dear {{ name }},

your number is {{ number }}.
"""

PEOPLE: Final = """\
email,name,number
bob@example.com,Bob,17
eve@example.com,"Jones, Eve",42
"""


def write_sample(people: Path, letter: Path) -> None:
    """Write a CSV file and a letter; raise CommandError if one of them exists."""
    for path, text in ((people, PEOPLE), (letter, LETTER)):
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise CommandError(escape(f"{path}: {error.strerror or error}")) from None
