"""What the commands `outbox …` have in common: arguments, options, and opening the outbox."""

from __future__ import annotations

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
    "MOMENTS",
    "OUTBOX",
    "POLICY",
    "message_errors",
    "messages_of",
    "opened_outbox",
    "policy_or_none",
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
MOMENTS = click.option(
    "--time-zone", default="UTC", show_default=True, help="Such as Europe/London."
)


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
