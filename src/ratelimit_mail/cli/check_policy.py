"""The command `check-policy`: check policy files, and describe their policies in words."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.describe import rules_of
from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.cli.find_policy import complete_policy, find_policy
from ratelimit_mail.cli.monitoring import monitoring_settings
from ratelimit_mail.cli.options import JSON
from ratelimit_mail.cli.policy_json import policy_as_json
from ratelimit_mail.cli.remarks import remarks_on
from ratelimit_mail.cli.tables import print_table, two_columns
from ratelimit_mail.exceptions import PolicyFileError

__all__ = ["check_policy_command"]


@click.command("check-policy")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, shell_complete=complete_policy)
@click.option("--toml", "wants_toml", is_flag=True, help="Print a policy file instead of tables.")
@JSON
def check_policy_command(files: tuple[str, ...], wants_toml: bool, wants_json: bool) -> None:
    """Describe the policy in FILE in words, or list all errors in it.

    The name of a file ends in .toml or contains a slash. FILE may also be the name of a preset;
    with --toml, the command then prints a policy file to start from. A folder means all its files
    that end in .toml.

    The exit code is 0, or 2 if there are errors in any of the files. An override, exemption or
    grant that has ended is noted, but is not an error.

    --json prints an array with an object for each file, also if there are errors.
    """
    names = [name for each in files for name in _files_of(each)]
    if wants_toml:
        if len(names) > 1 or wants_json:
            raise CommandError("--toml prints one policy; name one file or preset, and no --json")
        try:
            click.echo(find_policy(names[0]).dump(), nl=False)
        except PolicyFileError as error:
            raise CommandError(str(error)) from None
        return
    if wants_json:
        checked = list(map(_as_json, names))
        click.echo(json.dumps(checked, indent=2))
        if not all(each["valid"] for each in checked):
            sys.exit(CommandError.exit_code)
        return
    console = Console()
    errors: list[str] = []
    for number, name in enumerate(names):
        try:
            policy = find_policy(name)
            monitoring_settings(name)
        except CommandError as error:
            errors.append(error.message)
            continue
        if number:
            console.print()
        console.print(Text(f"{escape(name)}: valid", style="bold"), soft_wrap=True)
        rows = [("policy", policy.name), *rules_of(policy), *remarks_on(policy, datetime.now(UTC))]
        print_table(two_columns(rows), console)
    if errors:
        raise CommandError("\n".join(errors))


def _as_json(name: str) -> dict[str, Any]:
    try:
        policy = find_policy(name)
        monitoring_settings(name)
    except CommandError as error:
        errors = error.message.splitlines()
        return {"file": name, "valid": False, "errors": errors, "notes": [], "policy": None}
    notes = [f"{subject}: {text}" for subject, text in remarks_on(policy, datetime.now(UTC))]
    rules = policy_as_json(policy)
    return {"file": name, "valid": True, "errors": [], "notes": notes, "policy": rules}


def _files_of(name: str) -> list[str]:
    """Return the policy files in a folder, in order of name; anything else is itself."""
    if not os.path.isdir(name):
        return [name]
    files = sorted(each for each in os.listdir(name) if each.lower().endswith(".toml"))
    if not files:
        raise CommandError(f"there is no file that ends in .toml in the folder {escape(name)}")
    return [os.path.join(name, each) for each in files]
