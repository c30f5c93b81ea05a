"""What the commands `outbox …` have in common: arguments, options, and opening the outbox."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import click

from ratelimit_mail._util.text import escape
from ratelimit_mail.backends import Backend
from ratelimit_mail.cli.errors import CommandError, reported_errors
from ratelimit_mail.cli.find_policy import complete_policy, find_policy
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.outbox import Outbox, OutboxMessage
from ratelimit_mail.policy import Policy

__all__ = [
    "ID",
    "JSON",
    "MOMENTS",
    "OUTBOX",
    "POLICY",
    "STORE",
    "list_of_seconds",
    "message_errors",
    "messages_of",
    "opened_outbox",
    "policy_or_none",
    "seconds",
]

PAGE: Final = 1000
"""How many messages of an outbox are read at once."""

OUTBOX = click.argument("file", metavar="OUTBOX", type=click.Path(path_type=Path))
ID = click.argument("number", metavar="ID", type=click.IntRange(1, 2**63 - 1))
POLICY = click.option(
    "--policy",
    "policy_name",
    metavar="NAME",
    shell_complete=complete_policy,
    help="A preset or a policy file.",
)
STORE = click.option(
    "--store",
    "url",
    metavar="URL",
    envvar="RATELIMIT_MAIL_STORE",
    help="Where messages are counted; default: the environment variable RATELIMIT_MAIL_STORE.",
)
JSON = click.option("--json", "wants_json", is_flag=True, help="Print JSON instead of text.")
MOMENTS = click.option(
    "--time-zone", default="UTC", show_default=True, help="Such as Europe/London."
)

UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SECONDS: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*([smhd]?)")


def seconds(
    context: click.Context,  # noqa: ARG001 - click passes it
    parameter: click.Parameter,  # noqa: ARG001
    value: str | None,
) -> float | None:
    """Return the seconds of an option such as 90, 90s, 30m, 2h or 5d."""
    return None if value is None else _seconds(value)


def list_of_seconds(
    context: click.Context,  # noqa: ARG001 - click passes it
    parameter: click.Parameter,  # noqa: ARG001
    value: str | None,
) -> tuple[float, ...] | None:
    """Return the seconds of an option such as 30m,2h,3h."""
    return None if value is None else tuple(map(_seconds, value.split(",")))


def _seconds(text: str) -> float:
    match = _SECONDS.fullmatch(text.strip().lower())
    if match is None:
        raise click.BadParameter(f"{escape(text[:40])} is not a time such as 90s, 30m, 2h or 5d")
    return float(match[1]) * UNITS[match[2]]


def policy_or_none(name: str | Policy | None) -> Policy:
    """Return the policy of this name; without a name, one that has no limits."""
    return Policy(name="none", limits=[]) if name is None else find_policy(name)


@contextmanager
def opened_outbox(
    file: Path,
    policy: Policy,
    backend: Backend | None = None,
    *,
    create: bool = False,
    limiter_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Iterator[Outbox]:
    """Yield an outbox, and turn its errors into one line on stderr.

    create: whether a missing file is created; otherwise it raises CommandError.
    """
    if not create and not file.exists():
        raise CommandError(
            escape(f"{file}: there is no such file; `ratelimit-mail outbox put` creates an outbox")
        )
    with (
        reported_errors(),
        closing(
            Outbox(file, Limiter(policy, backend, **(limiter_options or {})), **options)
        ) as outbox,
    ):
        yield outbox


@contextmanager
def message_errors(file: Path) -> Iterator[None]:
    """Turn the error that a message is missing into one line on stderr with a next step."""
    try:
        yield
    except KeyError as error:
        raise CommandError(
            escape(
                f"{file} has no message {error.args[0]};"
                f" `ratelimit-mail outbox list {file}` shows those that it has"
            )
        ) from None


def messages_of(outbox: Outbox, **filters: Any) -> Iterator[OutboxMessage]:
    """Yield all messages that `Outbox.list` finds, page by page."""
    after = 0
    while page := outbox.list(after=after, limit=PAGE, **filters):
        yield from page
        after = page[-1].id
