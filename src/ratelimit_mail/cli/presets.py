"""The command `presets`: the rules of each preset in words, with source and date."""

from __future__ import annotations

import json
from collections.abc import Iterator
from inspect import signature
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.describe import rules_of
from ratelimit_mail.cli.errors import CommandError, reported_errors
from ratelimit_mail.cli.find_policy import complete_preset, find_policy
from ratelimit_mail.cli.policy_json import policy_as_json
from ratelimit_mail.cli.tables import print_table, two_columns
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets import PRESETS, SOURCES, Source

__all__ = ["presets_command"]


@click.command("presets")
@click.argument("name", required=False, shell_complete=complete_preset)
@click.option("--json", "wants_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--toml", "wants_toml", is_flag=True, help="Print NAME as a policy file to change.")
def presets_command(name: str | None, wants_json: bool, wants_toml: bool) -> None:
    """Show the rules of each preset, or of the preset NAME, in words, with source and date.

    --json prints an array of objects, or one object for NAME.
    """
    if wants_toml:
        if name is None or wants_json:
            raise CommandError("--toml needs the NAME of a preset, and no --json")
        policy, source = _preset(name)
        with reported_errors():
            text = policy.dump()
        click.echo(
            f"# The preset {name}, {source.institution}, as read on {source.read}.\n\n{text}",
            nl=False,
        )
        return
    if name is None:
        shown = [(PRESETS[each](), SOURCES[each]) for each in PRESETS]
    else:
        shown = [_preset(name)]
    if wants_json:
        objects = [as_json(policy, source) for policy, source in shown]
        click.echo(json.dumps(objects if name is None else objects[0], indent=2))
        return
    console = Console()
    for i, (policy, source) in enumerate(shown):
        if i:
            console.print()
        console.print(Text(policy.name, style="bold"), soft_wrap=True)
        rows = [*rules_of(policy), *_origin(policy.name, source)]
        print_table(two_columns(rows), console)


def _preset(name: str) -> tuple[Policy, Source]:
    if name not in PRESETS:
        find_policy(name)  # raises an error with the nearest names
        raise CommandError(f"{escape(name)} is not a preset; there are {', '.join(PRESETS)}")
    return PRESETS[name](), SOURCES[name]


def _origin(name: str, source: Source) -> Iterator[tuple[str, str]]:
    yield "parameters", ", ".join(_parameters(name))
    for page in source.pages:
        yield "source", f'{source.institution}, "{page}"'
    yield "source", f"read on {source.read}"
    if source.unconfirmed:
        yield "not confirmed", source.unconfirmed
    if source.left_out:
        yield "left out", source.left_out


def _parameters(name: str) -> list[str]:
    return list(signature(PRESETS[name]).parameters)


def as_json(policy: Policy, source: Source) -> dict[str, Any]:
    """Return the rules, source and date of a preset for JSON. The keys are stable."""
    rules = policy_as_json(policy)
    return {
        "name": rules.pop("name"),
        "source": {
            "institution": source.institution,
            "pages": list(source.pages),
            "read": source.read.isoformat(),
            "unconfirmed": source.unconfirmed,
            "left_out": source.left_out,
        },
        "parameters": _parameters(policy.name),
        **rules,
    }
