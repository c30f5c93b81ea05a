"""The command `ratelimit-mail`: its entry point, which ends it if the output cannot be written."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn, TextIO

from ratelimit_mail.cli.loading_errors import loading_errors

__all__ = ["main"]


def main() -> None:
    """Run the command; the entry point of `ratelimit-mail`."""
    with loading_errors():
        from ratelimit_mail.cli.command import command
    if "_RATELIMIT_MAIL_COMPLETE" in os.environ:
        from ratelimit_mail.cli.bash_completion import use_bash_completion

        use_bash_completion()
    try:
        command(prog_name="ratelimit-mail")
    except OSError as error:  # the commands report those of their files
        _end_without_output(error)
    finally:
        # At its end, Python would write what is left, and change the exit code if that fails.
        try:
            sys.stderr.flush()
        except OSError:
            _discard(sys.stderr)


def _end_without_output(error: OSError) -> NoReturn:
    """End the program with one line on stderr, if that can be written at least."""
    text = f"Error: the output cannot be written: {error.strerror or error}"
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):
        _discard(stream)
    sys.exit(2)


def _discard(stream: TextIO) -> None:
    """Let what is left in a stream, and what follows, go nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
