"""The command `postfix-release`: let held messages go at their time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.cli.options import JSON, seconds
from ratelimit_mail.server.control import ControlError, request
from ratelimit_mail.server.postfix import QUEUE_ID

__all__ = ["postfix_release_command"]

BATCH: Final = 100
"""How many messages are released by one call of postsuper."""

PROGRAM_SECONDS: Final = 300.0

_RELEASED: Final = re.compile(r"postsuper: ([0-9A-Za-z]{1,64}): released from hold")
"""What postsuper says of each message that it has found in the hold queue."""


@click.command("postfix-release")
@click.option(
    "--control",
    type=click.Path(path_type=Path),
    required=True,
    help="The control socket of `ratelimit-mail serve --excess hold`.",
)
@click.option(
    "--every", callback=seconds, metavar="TIME", help="Repeat the release, such as every 10s."
)
@click.option(
    "--postsuper",
    default="/usr/sbin/postsuper",
    show_default=True,
    help="Postfix's program that releases messages; postqueue is beside it.",
)
@click.option(
    "--config-directory",
    metavar="DIR",
    help="The configuration of a Postfix that is not the default instance.",
)
@JSON
@click.option("--quiet", "-q", is_flag=True, help="Print nothing if nothing was released.")
def postfix_release_command(
    control: Path,
    every: float | None,
    postsuper: str,
    config_directory: str | None,
    wants_json: bool,
    quiet: bool,
) -> None:
    """Release the messages in Postfix's hold queue whose time has come.

    Run it as a user who may run postsuper, which is root. The command asks the server which
    messages may go now. The server counts them before they are released, and books messages again
    whose room was taken meanwhile. A message that is not released because this program dies is
    released the next time.

    The exit code is 0, or 2 if the server or postsuper cannot be used. With --every, the command
    prints such an error and continues.
    """
    options = [] if config_directory is None else ["-c", config_directory]
    postqueue = Path(postsuper).with_name("postqueue")
    while True:
        try:
            number = _release_all(control, [postsuper, *options], [str(postqueue), *options])
        except CommandError as error:
            if every is None:
                raise
            click.echo(f"Error: {error.message}", err=True)
        else:
            if number or (every is None and not quiet):
                click.echo(
                    json.dumps({"released": number}) if wants_json else f"{number:,} released"
                )
                sys.stdout.flush()
        if every is None:
            return
        time.sleep(max(0.1, every))


def _release_all(control: Path, postsuper: list[str], postqueue: list[str]) -> int:
    """Release what may go now; return how many messages."""
    number = 0
    while True:
        queue_ids = _ask(control, "release", most=BATCH)
        if not isinstance(queue_ids, list):
            raise CommandError("the server's answer is not a list of queue ids")
        if not queue_ids:
            return number
        for each in queue_ids:
            # They come from Postfix, over a socket and through a file: never trusted.
            if not isinstance(each, str) or not QUEUE_ID.fullmatch(each):
                raise CommandError(f"{escape(repr(each)[:80])} is not a queue id of Postfix's")
        said = _run([*postsuper, *(word for each in queue_ids for word in ("-H", each))])
        found = set(_RELEASED.findall(said))
        released = [each for each in queue_ids if each in found]
        missing = [each for each in queue_ids if each not in found]
        _ask(control, "released", queue_ids=released, missing=missing)
        number += len(released)
        # postsuper puts them into the deferred queue, which is looked at every few minutes only.
        for each in released:
            try:
                _run([*postqueue, "-i", each])
            except CommandError as error:
                click.echo(f"{each} is sent at the next queue run: {error.message}", err=True)


def _run(command: list[str]) -> str:
    """Run a program of Postfix's; return what it says. Raises CommandError if it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - a list of arguments, and only queue ids
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROGRAM_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(escape(f"{command[0]}: {error}")) from None
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it failed"]
        raise CommandError(escape(f"{command[0]}: {reason[0][:500]}"))
    return done.stderr + done.stdout


def _ask(control: Path, op: str, **keys: Any) -> object:
    try:
        return request(control, op, **keys)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise CommandError(
            escape(
                f"--control {control}: {error.strerror}; check that `ratelimit-mail serve` runs"
                " with --control and this path"
            )
        ) from None
    except (OSError, ControlError) as error:
        raise CommandError(escape(f"--control {control}: {error}")) from None
