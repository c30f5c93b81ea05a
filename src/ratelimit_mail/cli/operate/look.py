"""The commands `usage`, `top` and `blocks`: they change nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.text import Text

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.operate.options import (
    SCOPE,
    SCOPE_OF_POLICY,
    SUBJECT,
    StoreLocation,
    client_options,
    count_option,
    opened_live_store,
    scope_or_default,
    scopes_in_words,
    store_options,
    subject_of,
    tier_in_words,
)
from ratelimit_mail.cli.operate.output import (
    blocks_table,
    subject_text,
    top_table,
    usage_table,
)
from ratelimit_mail.cli.options import JSON
from ratelimit_mail.cli.tables import cells, print_table, table_of
from ratelimit_mail.envelope import Client

__all__ = ["blocks_command", "top_command", "usage_command"]


@click.command("usage")
@SUBJECT
@SCOPE
@store_options
@client_options
@JSON
def usage_command(
    values: tuple[str, ...],
    scope_words: str | None,
    location: StoreLocation,
    client: Client | None,
    wants_json: bool,
) -> None:
    """Show how much of each limit SUBJECT has used, limits that only report included.

    SUBJECT is a sender's address or, with --scope, what the limits count per: a client's IP
    address or a login; with several words in --scope, a value for each. A submitter is named as
    `top` shows it, such as `user:ann`, and needs no --scope.

    SUBJECT is compared as the policy compares it: without case, and any address of a network is
    one client.

    --address, --user, --protocol and --tag describe the client whose tier has the limits.
    """
    subject = subject_of(values, scope_words)
    with opened_live_store(location) as store:
        usages = store.usage(subject, client)
        tier = {} if usages else store.tier(client)
    if wants_json:
        click.echo(json.dumps(usages, indent=2))
        return
    console = Console()
    if not usages:
        words = " and ".join(subject.scope)
        console.print(f"No limit of this client's tier is counted per {words}.", soft_wrap=True)
        if tier["scopes"]:
            console.print(
                f"Its limits are counted per {scopes_in_words(tier)}: `ratelimit-mail top` shows"
                " how a subject is named.",
                soft_wrap=True,
            )
        return
    print_table(usage_table(usages), console)
    block = usages[0]["block"]
    if block is not None:
        reason = f": {block['reason']}" if block["reason"] else ""
        until = block["until"] or "it is unblocked"
        console.print(Text(escape(f"Blocked until {until}{reason}"), style="bold"), soft_wrap=True)


@click.command("top")
@SCOPE_OF_POLICY
@count_option(most=10_000)
@store_options
@client_options
@JSON
def top_command(
    scope_words: str | None,
    count: int,
    location: StoreLocation,
    client: Client | None,
    wants_json: bool,
) -> None:
    """Show the subjects that used the largest share of a limit, the heaviest first.

    The command looks at every subject once. With a million of them in Redis that takes seconds, in
    short steps, so that mail is not delayed.
    """
    with opened_live_store(location) as store:
        scope = scope_or_default(scope_words, store, client)
        subjects = store.top(scope, count, client)
        tier = store.tier(client)
    if wants_json:
        click.echo(json.dumps(subjects, indent=2))
    elif subjects:
        print_table(top_table(subjects))
        if tier["has_tiers"] and client is None:
            click.echo(
                f"The limits are those of {tier_in_words(tier)}, for clients of which nothing is"
            )
            click.echo("known; --address, --user, --protocol and --tag describe another client.")
    elif tier["scopes"] and list(scope) not in tier["scopes"]:
        click.echo(
            f"Nothing is counted per {' and '.join(scope)}: the limits are counted per"
            f" {scopes_in_words(tier)}."
        )
    else:
        click.echo("Nothing is counted now.")


@click.command("blocks")
@click.option("--log", "wants_log", is_flag=True, help="List what operators changed, latest last.")
@store_options
@JSON
def blocks_command(
    wants_log: bool,
    location: StoreLocation,
    wants_json: bool,
) -> None:
    """List the blocks in force, or with --log the last 1,000 blocks, unblocks and resets.

    The store records who changed what with these commands, and why. A running server also writes
    it into its log.
    """
    with opened_live_store(location) as store:
        rows = store.operations() if wants_log else store.blocks()
    if wants_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo("Nothing was changed." if wants_log else "Nothing is blocked.")
        return
    if not wants_log:
        print_table(blocks_table(rows))
        return
    table = table_of("at (UTC)", "by", "operation", "scope", "subject", "reason")
    for each in rows:
        at = datetime.fromtimestamp(each["at"] / 1000, UTC)
        table.add_row(
            *cells(
                at,
                each["by"],
                each["operation"],
                " and ".join(each["scope"]),
                subject_text(each["subject"]),
                each["reason"] or "",
            )
        )
    print_table(table)
