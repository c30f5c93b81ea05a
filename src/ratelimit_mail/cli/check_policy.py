"""The command `check-policy`: whether a policy file is right, and what it means in words."""

from __future__ import annotations

from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.describe import remarks_on
from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.cli.find_policy import find_policy
from ratelimit_mail.cli.presets import rules_of
from ratelimit_mail.exceptions import PolicyFileError

__all__ = ["check_policy_command"]


@click.command("check-policy")
@click.argument("file")
@click.option("--toml", "wants_toml", is_flag=True, help="Print it as a policy file, no tables.")
def check_policy_command(file: str, wants_toml: bool) -> None:
    """Say what the policy in FILE means in words, or all that is wrong with it.

    A file's name ends in .toml or has a slash in it. FILE may be the name of a preset, too; with
    --toml, that is a policy file to start from.

    The exit code is 0, or 2 where something is wrong; what has ended is pointed out, and no
    mistake.
    """
    policy = find_policy(file)
    if wants_toml:
        try:
            click.echo(policy.dump(), nl=False)
        except PolicyFileError as error:
            raise CommandError(str(error)) from None
        return
    console = Console()
    console.print(Text(f"{escape(file)}: fine", style="bold"), soft_wrap=True)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(width=17, overflow="fold")
    table.add_column(overflow="fold")
    last = None
    rows = [("policy", policy.name), *rules_of(policy), *remarks_on(policy, datetime.now(UTC))]
    for subject, words in rows:
        table.add_row(Text("" if subject == last else f"  {subject}"), Text(escape(words)))
        last = subject
    console.print(table)
