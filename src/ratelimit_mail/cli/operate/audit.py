"""The audit trail of operators: each block, unblock and reset with who and why, in the system log.

It is written to the system log (syslog, facility `auth`), so that a trail exists which an operator
cannot change. Where there is no system log, it is written to stderr.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from typing import Final

import click

from ratelimit_mail._util.system_log import AUTH, SystemLog, local_socket
from ratelimit_mail._util.text import escape, show
from ratelimit_mail.cli.errors import CommandError

__all__ = ["LONGEST_REASON", "check_line", "login_name", "record"]

LONGEST_REASON: Final = 200

LONGEST_NAME: Final = 100

LONGEST_SUBJECT: Final = 2000
"""In characters; several addresses or logins, each of 320 at most."""


def login_name() -> str:
    """Return the login name of the operator, also behind sudo."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"
    behind = os.environ.get("SUDO_USER")
    return f"{behind} as {name}" if behind and behind != name else name


def check_line(option: str, text: str) -> str:
    """Return the text of an option; CommandError if it is not one line of a bounded length."""
    longest = LONGEST_NAME if option == "--by" else LONGEST_REASON
    if not text.strip() or not text.isprintable() or len(text) > longest:
        raise CommandError(f"{option}: {show(text)} is not a line of 1 to {longest} characters")
    return text


def record(operation: str, scope: Sequence[str], subject: object, by: str, reason: str) -> None:
    """Write one line of the trail to the system log, or else to stderr."""
    # In full: subjects that begin alike must not look the same.
    shown = escape(repr(subject)[:LONGEST_SUBJECT])[:LONGEST_SUBJECT]
    line = escape(f"{by}: {operation} {' and '.join(scope)} {shown}: {reason}")
    address = local_socket()
    if address is not None:
        log = SystemLog(address, AUTH)
        try:
            log.write(line)
        except OSError:
            pass
        else:
            return
        finally:
            log.close()
    click.echo(f"ratelimit-mail: {line}", err=True)
