"""The command `check-policy`: check a policy file, and describe the policy in words."""

from __future__ import annotations

from datetime import UTC, datetime

import click
from rich.console import Console
from rich.text import Text

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.describe import rules_of, two_columns
from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.cli.find_policy import find_policy
from ratelimit_mail.cli.monitoring import monitoring_settings
from ratelimit_mail.cli.remarks import remarks_on
from ratelimit_mail.exceptions import PolicyFileError

__all__ = ["check_policy_command"]


@click.command("check-policy")
@click.argument("file")
@click.option("--toml", "wants_toml", is_flag=True, help="Print a policy file instead of tables.")
def check_policy_command(file: str, wants_toml: bool) -> None:
    """Describe the policy in FILE in words, or list all errors in it.

    The name of a file ends in .toml or contains a slash. FILE may also be the name of a preset;
    with --toml, that prints a policy file to start from.

    The exit code is 0, or 2 if there are errors. An override, exemption or grant that has ended
    is noted, but is not an error.
    """
    policy = find_policy(file)
    if wants_toml:
        try:
            click.echo(policy.dump(), nl=False)
        except PolicyFileError as error:
            raise CommandError(str(error)) from None
        return
    monitoring_settings(file)
    console = Console()
    console.print(Text(f"{escape(file)}: valid", style="bold"), soft_wrap=True)
    rows = [("policy", policy.name), *rules_of(policy), *remarks_on(policy, datetime.now(UTC))]
    console.print(two_columns(rows))
