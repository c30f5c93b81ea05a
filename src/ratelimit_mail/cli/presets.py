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
from ratelimit_mail.cli.policy_json import figure_as_json, policy_as_json
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

    Each figure has the number of the page that states it. Figures that a page states and the preset
    does not limit by default are under "also stated", with the reason or the parameter.

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
    """Yield the parameters, each figure with the numbers of its pages, and the numbered pages."""
    yield "parameters", ", ".join(_parameters(name))
    numbers = {page: number for number, page in enumerate(source.pages, start=1)}
    for figure in source.figures:
        pages = ", ".join(str(numbers[page]) for page in figure.pages)
        words = f"{figure} [{pages}]"
        if figure.refusal:
            words += f"; refusal: {figure.refusal}"
        if figure.note:
            words += f"; {figure.note}"
        yield ("figures" if figure.limit else "also stated"), words
    for page, number in numbers.items():
        title = f'"{page.title}"'
        title = f"{title}, in a copy" if page.second_hand else f"{source.institution}, {title}"
        yield "source", f"[{number}] {title}, read on {page.read}"
        if page.address:
            yield "source", page.address
    if source.unconfirmed:
        yield "not confirmed", source.unconfirmed
    if source.left_out:
        yield "left out", source.left_out


def _parameters(name: str) -> list[str]:
    return list(signature(PRESETS[name]).parameters)


def as_json(policy: Policy, source: Source) -> dict[str, Any]:
    """Return the rules, source and date of a preset for JSON. The keys are stable."""
    rules = policy_as_json(policy, source)
    return {
        "name": rules.pop("name"),
        "source": {
            "institution": source.institution,
            "pages": [page.title for page in source.pages],
            "read": source.read.isoformat(),
            "unconfirmed": source.unconfirmed,
            "left_out": source.left_out,
        },
        "figures": [{"limit": figure.limit, **figure_as_json(figure)} for figure in source.figures],
        "parameters": _parameters(policy.name),
        **rules,
    }
