"""The command `presets`: the rules of each preset in words, with source and date."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from inspect import signature
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ratelimit_mail._util.text import escape, show
from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.cli.find_policy import find_policy
from ratelimit_mail.conditions import AllOf, AnyOf, Condition, HasTag, InNetwork, Not, Protocol
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.overrides import Concession
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets import PRESETS, SOURCES, Source

__all__ = ["presets_command"]


@click.command("presets")
@click.argument("name", required=False)
@click.option("--json", "wants_json", is_flag=True, help="Print JSON, no tables.")
def presets_command(name: str | None, wants_json: bool) -> None:
    """Show the rules of each preset in words, with source and date; or those of NAME alone.

    With --json, an array of objects, or one object where NAME is given.
    """
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
        console.print(Text(policy.name, style="bold"))
        console.print(_table([*rules_of(policy), *_origin(policy.name, source)]))


def _preset(name: str) -> tuple[Policy, Source]:
    if name not in PRESETS:
        find_policy(name)  # complains, with the nearest names
        raise CommandError(f"{escape(name)} is no preset; there are {', '.join(PRESETS)}")
    return PRESETS[name](), SOURCES[name]


def _table(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(width=17, overflow="fold")
    table.add_column(overflow="fold")
    last = None
    for subject, words in rows:
        table.add_row(Text("" if subject == last else f"  {subject}"), Text(escape(words)))
        last = subject
    return table


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


def rules_of(policy: Policy) -> Iterator[tuple[str, str]]:
    """Every rule of `policy`: whom or what it is about, and its words."""
    outbound = [limit for limit in policy.limits if not _is_inbound(limit)]
    inbound = [limit for limit in policy.limits if _is_inbound(limit)]
    yield from (("everybody", limit_in_words(limit)) for limit in outbound)
    for tier in policy.tiers:
        yield tier.name, f"{condition_in_words(tier.when)}:"
        yield from ((tier.name, limit_in_words(limit)) for limit in tier.limits)
    yield from (("each mailbox", limit_in_words(limit)) for limit in inbound)
    if policy.grants is not None:
        yield "senders", "must be granted first; mail from any other is rejected"
        yield from (("senders", f"granted: {_whom(grant)}") for grant in policy.grants)
    yield from (("exempt", _whom(exemption)) for exemption in policy.exemptions)
    for override in policy.overrides:
        numbers = ", ".join(f"{name}: {number}" for name, number in override.limits.items())
        yield "other numbers", f"{_whom(override)}: {numbers}"
    if policy.internal_domains:
        yield "internal", ", ".join(policy.internal_domains)
    if policy.proxy_address_limit is not None:
        yield "aliases", f"{policy.proxy_address_limit} of one mailbox; one recipient together"
    if policy.partial:
        yield "arriving mail", "is answered recipient by recipient"
    if policy.per_node:
        yield "mail servers", "each counts on its own"


def limit_in_words(limit: Limit) -> str:
    """`limit` with all that it says, but for its reply."""
    words = str(limit)
    if isinstance(limit, RateLimit):
        if limit.share is not None:
            words += f", {limit.share:.0%} of {limit.rate.amount}".replace("%", " %")
        if limit.on_excess == "reject":
            words += "; above it rejected"
        if limit.denied == "count":
            words += "; refused attempts count"
    return words


def condition_in_words(condition: Condition | None) -> str:
    """For which clients `condition` holds."""
    return "any other client" if condition is None else f"clients {_words(condition)}"


def _words(condition: Condition) -> str:
    match condition:
        case AnyOf(conditions):
            return " or ".join(map(_part, conditions))
        case AllOf(conditions):
            return " and ".join(map(_part, conditions))
        case InNetwork(networks):
            return f"with an address in {', '.join(map(str, networks))}"
        case Not(InNetwork() as inner):
            return _words(inner).replace("with", "without", 1)
        case Not(inner):
            return f"not {_part(inner)}"
        case HasTag(tag):
            return f"tagged {tag}"
        case Protocol(name):
            return f"by {name}"
        case _:
            return f"that {show(condition)} takes"


def _part(condition: Condition) -> str:
    words = _words(condition)
    return f"({words})" if isinstance(condition, AnyOf | AllOf) else words


def _whom(concession: Concession) -> str:
    words = ", ".join(concession.senders)
    if concession.when is not None:
        words += f"{', ' if words else ''}{condition_in_words(concession.when)}"
    return f"{words} ({concession.reason})" if concession.reason else words


def _is_inbound(limit: Limit) -> bool:
    return isinstance(limit, RateLimit) and limit.direction == "inbound"


def as_json(policy: Policy, source: Source) -> dict[str, Any]:
    """The same for programs."""
    return {
        "name": policy.name,
        "source": {
            "institution": source.institution,
            "pages": list(source.pages),
            "read": source.read.isoformat(),
            "unconfirmed": source.unconfirmed,
            "left_out": source.left_out,
        },
        "parameters": _parameters(policy.name),
        "limits": list(map(_limit_as_json, policy.limits)),
        "tiers": [
            {
                "name": tier.name,
                "when": condition_in_words(tier.when),
                "limits": list(map(_limit_as_json, tier.limits)),
            }
            for tier in policy.tiers
        ],
        "grants": None if policy.grants is None else list(map(_whom, policy.grants)),
        "exemptions": list(map(_whom, policy.exemptions)),
        "internal_domains": list(policy.internal_domains),
        "proxy_address_limit": policy.proxy_address_limit,
        "partial": policy.partial,
        "per_node": policy.per_node,
    }


def _limit_as_json(limit: Limit) -> dict[str, Any]:
    told = {
        "name": limit.name,
        "words": limit_in_words(limit),
        "limit": limit.limit,
        "count": limit.count,
    }
    if not isinstance(limit, RateLimit):
        return {**told, "unit": "recipients of one message"}
    return {
        **told,
        "unit": limit.unit,
        "seconds": limit.window / 1000,
        "scope": list(limit.scope),
        "direction": limit.direction,
        "on_excess": limit.on_excess,
        "denied": limit.denied,
    }
