"""`manage.py ratelimit_outbox`: the commands of `ratelimit-mail outbox`, for a mailer's outbox."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ratelimit_mail._util.text import escape
from ratelimit_mail.adapters.django.registry import (
    alias_of,
    limiter_of,
    options_of,
    outbox_of,
    store_of,
)
from ratelimit_mail.adapters.django.transport import BackendTransport
from ratelimit_mail.exceptions import OutboxError

__all__ = ["Command"]


class Command(BaseCommand):
    """Run one of the outbox's commands with the limits and the backend of a mailer."""

    help = (
        "Sends what is in the outbox of a mailer, and looks after it: run, list, show, stats,"
        " retry, cancel, approve or reject. Each has --help; without one, all are described."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the mailer, the command and its arguments."""
        parser.add_argument("--using", metavar="ALIAS", help="The mailer in MAILERS.")
        parser.add_argument(
            "command",
            nargs="?",
            help="run, list, show, stats, retry, cancel, ...; without one, what each does.",
        )
        parser.add_argument("arguments", nargs=argparse.REMAINDER, help="Those of the command.")

    def handle(
        self,
        *_: Any,
        command: str | None = None,
        arguments: list[str] | None = None,
        using: str | None = None,
        stdout: Any = None,
        **__: Any,
    ) -> None:
        """Run the command. Raises CommandError with its error and its exit code."""
        try:
            import click

            from ratelimit_mail.cli.outbox.embedded import embedded_commands
        except ModuleNotFoundError as error:
            if error.name not in ("click", "rich"):
                raise
            raise CommandError(
                "this command needs click and rich: pip install 'ratelimit-mail[cli]'"
            ) from None
        try:
            options = options_of(using)
            if options.outbox is None:
                raise ImproperlyConfigured("OUTBOX is missing: the file of the outbox")
            limiter, store = limiter_of(options), store_of(options)
            alias = alias_of(using)
            transport = BackendTransport(options, alias)
            if not Path(options.outbox).exists():
                outbox_of(options).stats()  # which creates it
        except (ImproperlyConfigured, OutboxError) as error:
            raise CommandError(escape(str(error))) from None
        policy = options.policy
        group = embedded_commands(
            Path(options.outbox),
            limiter.policy,
            store,
            transport,
            policy_name=os.fspath(policy) if isinstance(policy, str | os.PathLike) else None,
        )
        output = contextlib.nullcontext() if stdout is None else contextlib.redirect_stdout(stdout)
        try:
            with output:
                code = group.main(
                    ["--help"] if command is None else [command, *(arguments or ())],
                    prog_name="manage.py ratelimit_outbox",
                    standalone_mode=False,
                )
        except click.ClickException as error:
            raise CommandError(error.format_message(), returncode=error.exit_code) from None
        except click.Abort:
            raise CommandError("interrupted", returncode=130) from None
        if code:
            raise SystemExit(code)
