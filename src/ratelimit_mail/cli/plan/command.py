"""The command `plan`: when a mailing will have gone, under one policy or several."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.errors import INTERRUPTED, CommandError
from ratelimit_mail.cli.find_policy import find_policy
from ratelimit_mail.cli.plan.as_json import Outcome, as_json
from ratelimit_mail.cli.plan.mailing import Mailing, messages_of, moment_of, submitter
from ratelimit_mail.cli.plan.tables import print_plan, print_side_by_side
from ratelimit_mail.cli.progress import watched
from ratelimit_mail.envelope import PROTOCOLS, Envelope
from ratelimit_mail.overrides import Grant
from ratelimit_mail.planner import (
    MOST_RECIPIENTS,
    SENDER,
    CannotFinish,
    MailingPlan,
    plan_mailing,
)
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets import PRESETS

__all__ = ["plan_command"]

WITHOUT_A_BAR: Final = 25_000
"""So many messages are planned before anybody wonders how long it takes."""

NUMBER: Final = click.IntRange(1, MOST_RECIPIENTS)


@click.command("plan", epilog=f"Policies: {', '.join(PRESETS)}.")
@click.option(
    "--policy",
    "names",
    multiple=True,
    metavar="NAME",
    help="One of those below, or a policy file; repeatable.",
)
@click.option("--all", "wants_all", is_flag=True, help="Put all of those below side by side, too.")
@click.option("--messages", type=NUMBER, help="So many, of one recipient each.")
@click.option("--csv", "file", type=click.Path(path_type=Path), help="A message a row of FILE.")
@click.option("--recipients", type=NUMBER, help="So many in all, in messages of:")
@click.option("--per-message", type=NUMBER, help="At most so many in each message.")
@click.option("--start", metavar="TIME", help="ISO 8601 or Unix seconds.  [default: now]")
@click.option("--sender", default=SENDER, show_default=True, help="Who sends it.")
@click.option("--granted", is_flag=True, help="As if it had the grants that policies ask for.")
@click.option("--client", "address", metavar="ADDRESS", help="The IP address it comes from.")
@click.option("--protocol", type=click.Choice(PROTOCOLS), help="What it is submitted by.")
@click.option("--tag", "tags", multiple=True, metavar="WORD", help="Of the client; repeatable.")
@click.option("--json", "wants_json", is_flag=True, help="Print one JSON object, no tables.")
def plan_command(
    names: tuple[str, ...],
    wants_all: bool,
    messages: int | None,
    file: Path | None,
    recipients: int | None,
    per_message: int | None,
    start: str | None,
    sender: str,
    granted: bool,
    address: str | None,
    protocol: str | None,
    tags: tuple[str, ...],
    wants_json: bool,
) -> None:
    """Tell when the messages of a mailing will have gone under a policy.

    Exactly one of --messages, --csv and --recipients says what is to be sent. The messages
    go in their order, each as soon as it fits. Nothing is counted against the sender at the
    start, nothing else is sent meanwhile, and sending takes no time. Nothing is sent here.

    The first --policy is told in full: when the first message, half of them and the last
    will have gone, which limit holds when, and a schedule by hour. With several, or --all,
    every one has a row in a table beside the others.

    The column "recipients" of a CSV file (.csv, .csv.gz), named in its first row, has
    addresses separated by spaces or semicolons, or a number; n_recipients and count have a
    number. Where only a number is known, as many external addresses are made up, all
    different: recipient-1@replay.invalid, recipient-2@replay.invalid and so on.

    Without --client, --protocol and --tag nothing is known of who submits, which puts the
    mailing in tier 2, the strict one, of western-convergence.

    The exit code is 0, and 2 where an option or the file is wrong, or where a message can
    never go under any of the policies.
    """
    errors = Console(stderr=True)
    try:
        policies = _policies(names, wants_all=wants_all)
        if granted:
            policies = [_granted(policy, sender) for policy in policies]
        client = submitter(sender, address, protocol, tags)
        begin = moment_of(start)
        amount = (messages, file, recipients, per_message)
        sent = messages_of(*amount, sender=sender, client=client, console=errors)
        mailing = Mailing(sent, sender, client, begin)
        outcomes = [_plan(policy, mailing, len(policies), errors) for policy in policies]
        if wants_json:
            click.echo(json.dumps(as_json(mailing, outcomes), indent=2))
        else:
            _print(outcomes, Console(), in_full=bool(names))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    if all(isinstance(outcome, CannotFinish) for _, outcome in outcomes):
        raise CommandError("none of these policies lets all messages go")


def _policies(names: Sequence[str], *, wants_all: bool) -> list[Policy]:
    """Those that are named, in that order and each once, then the presets."""
    wanted = dict.fromkeys((*names, *(PRESETS if wants_all else ())))
    if not wanted:
        raise CommandError("a policy is needed: --policy NAME, or --all for all presets")
    return [find_policy(name) for name in wanted]


def _granted(policy: Policy, sender: str) -> Policy:
    """`policy`, with a grant for `sender` where it asks for one."""
    if policy.grants is None:
        return policy
    try:
        return policy.evolve(grants=[*policy.grants, Grant(senders=[sender])])
    except ValueError as error:
        raise CommandError(escape(f"--sender: {error}")) from None


def _plan(policy: Policy, mailing: Mailing, policies: int, console: Console) -> Outcome:
    """The plan under one of so many policies, or why there is none."""
    messages: Iterable[int | Envelope] = mailing.messages
    total = len(mailing.messages)
    if total * policies > WITHOUT_A_BAR:
        messages = watched(messages, f"Planning for {policy.name}", console, total=total)
    try:
        plan = plan_mailing(
            policy, messages, sender=mailing.sender, client=mailing.client, start=mailing.start
        )
    except CannotFinish as error:
        if policies == 1:
            raise CommandError(escape(f"under {policy.name}, {error}")) from None
        return policy.name, error
    except ValueError as error:  # a start in another age
        raise CommandError(escape(str(error))) from None
    return policy.name, plan


def _print(outcomes: Sequence[Outcome], console: Console, *, in_full: bool) -> None:
    first = outcomes[0][1]
    if in_full and isinstance(first, MailingPlan):
        print_plan(first, console)
        if len(outcomes) > 1:
            console.print()
    if len(outcomes) > 1:
        print_side_by_side(outcomes, console)
