"""The command `plan`: its options, its help text and its steps."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from ratelimit_mail._util.text import escape
from ratelimit_mail.backends import Backend
from ratelimit_mail.cli.errors import INTERRUPTED, CommandError
from ratelimit_mail.cli.find_policy import complete_policy, find_policy
from ratelimit_mail.cli.html.writer import PageWriter
from ratelimit_mail.cli.plan.json_output import Outcome, as_json
from ratelimit_mail.cli.plan.mailing import (
    Mailing,
    client_from_options,
    parse_hours,
    parse_moment,
    parse_start,
    parse_zone,
    read_messages,
)
from ratelimit_mail.cli.plan.tables import print_comparison, print_plan
from ratelimit_mail.cli.progress import with_progress
from ratelimit_mail.cli.store import opened_store
from ratelimit_mail.envelope import PROTOCOLS, Envelope
from ratelimit_mail.exceptions import BackendError
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

PROGRESS_FROM: Final = 25_000
"""A progress bar is shown for more messages than this."""

NUMBER: Final = click.IntRange(1, MOST_RECIPIENTS)


@click.command("plan", epilog=f"Policies: {', '.join(PRESETS)}.")
@click.option(
    "--policy",
    "names",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_policy,
    help="A preset below, or a policy file; repeatable.",
)
@click.option("--all", "wants_all", is_flag=True, help="Compare all presets below.")
@click.option("--messages", type=NUMBER, help="Messages with one recipient each.")
@click.option("--csv", "file", type=click.Path(path_type=Path), help="One message for each row.")
@click.option("--recipients", type=NUMBER, help="Recipients in total.")
@click.option("--per-message", type=NUMBER, help="The most recipients of one message.")
@click.option(
    "--start",
    metavar="TIME",
    help="The start of the mailing: ISO 8601 or Unix seconds.  [default: now]",
)
@click.option(
    "--store",
    "url",
    metavar="URL",
    envvar="RATELIMIT_MAIL_STORE",
    help="Where earlier messages were counted; default: the environment variable"
    " RATELIMIT_MAIL_STORE.",
)
@click.option("--not-before", metavar="TIME", help="No message goes before this time.")
@click.option(
    "--hours",
    metavar="HOURS",
    help="Messages go in these hours only, such as 'mon-fri 08:00-18:00'; default: always.",
)
@click.option("--time-zone", default="UTC", show_default=True, help="Such as Europe/London.")
@click.option("--sender", default=SENDER, show_default=True, help="The sender address.")
@click.option(
    "--granted", is_flag=True, help="Plan as if the sender had the grant that a policy requires."
)
@click.option("--client", "address", metavar="ADDRESS", help="The IP address of the client.")
@click.option("--protocol", type=click.Choice(PROTOCOLS), help="The protocol of the client.")
@click.option(
    "--tag", "tags", multiple=True, metavar="WORD", help="A tag of the client; repeatable."
)
@click.option(
    "--report",
    "page",
    type=click.Path(path_type=Path),
    metavar="HTML",
    help="Write a report with a calendar to this file.",
)
@click.option("--json", "wants_json", is_flag=True, help="Print JSON instead of tables.")
def plan_command(
    names: tuple[str, ...],
    wants_all: bool,
    messages: int | None,
    file: Path | None,
    recipients: int | None,
    per_message: int | None,
    start: str | None,
    url: str | None,
    not_before: str | None,
    hours: str | None,
    time_zone: str,
    sender: str,
    granted: bool,
    address: str | None,
    protocol: str | None,
    tags: tuple[str, ...],
    page: Path | None,
    wants_json: bool,
) -> None:
    """Predict when the messages of a mailing will have been sent under a policy.

    The command sends nothing. Exactly one of --messages, --csv and --recipients is required.

    The plan assumes that the messages go in their order, each as soon as it fits, that nothing
    else is sent during the mailing, and that sending takes no time.

    With --store, such as sqlite:///counts.db or redis://localhost:6379/0, the plan includes what
    the sender has sent before, and blocks. The store is only read. Without --store, the plan
    assumes that nothing was sent before the start.

    --time-zone applies to --hours, to times without a zone, and to the times in the tables.

    The plan of the first --policy is printed in full: when the first message, half of them
    and the last will have been sent, which limit delays them when, and a schedule by hour. With
    several policies, or --all, a table has a row for each. --report writes one HTML file
    that any browser can open, with a calendar of the days; it needs the extra [report].

    The column "recipients" of a CSV file (.csv, .csv.gz), named in its first row, has
    addresses separated by spaces or semicolons, or a number; n_recipients and count have a
    number. If only a number is known, that many external addresses are generated, all
    different: recipient-1@replay.invalid, recipient-2@replay.invalid and so on.

    Without --client, --protocol and --tag nothing is known about the client, so
    western-convergence puts it in its stricter tier, tier 2.

    The exit code is 0, or 2 if an option or the file is wrong, or if under each of the
    policies some message can never go.
    """
    stderr = Console(stderr=True)
    try:
        policies = _policies(names, wants_all=wants_all)
        _check_sizes(policies)
        writer = None if page is None else PageWriter(page, *([] if file is None else [file]))
        if granted:
            policies = [_with_grant(policy, sender) for policy in policies]
        client = client_from_options(sender, address, protocol, tags)
        zone = parse_zone(time_zone)
        begin = None if start is None and url is not None else parse_start(start, zone)
        earliest = None if not_before is None else parse_moment("--not-before", not_before, zone)
        working_hours = None if hours is None else parse_hours(hours, zone)
        amount = (messages, file, recipients, per_message)
        sent = read_messages(*amount, sender=sender, client=client, console=stderr)
        mailing = Mailing(sent, sender, client, begin, earliest, working_hours)
        with opened_store(url) as backend:
            outcomes = [
                _plan(policy, mailing, backend, len(policies), stderr) for policy in policies
            ]
        finishes = any(isinstance(outcome, MailingPlan) for _, outcome in outcomes)
        if writer is not None and finishes:
            from ratelimit_mail.cli.plan.page import PlanResults, plan_page

            results = PlanResults(
                outcomes=outcomes,
                policies=policies,
                zone=zone,
                in_full=bool(names),
                has_history=url is not None,
            )
            writer.write(plan_page(results))
        if wants_json:
            click.echo(json.dumps(as_json(mailing, outcomes), indent=2))
        else:
            _print(outcomes, Console(), zone, in_full=bool(names))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    if not finishes:
        raise CommandError("under each of these policies some message can never go")


def _policies(names: Sequence[str], *, wants_all: bool) -> list[Policy]:
    """Return the named policies in their order, each once, then the presets if requested."""
    unique = dict.fromkeys((*names, *(PRESETS if wants_all else ())))
    if not unique:
        raise CommandError("a policy is needed: --policy NAME, or --all for all presets")
    return [find_policy(name) for name in unique]


def _check_sizes(policies: Sequence[Policy]) -> None:
    """Raise CommandError for a policy with limits on bytes: messages to plan have no size."""
    for policy in policies:
        if policy.counts_bytes:
            raise CommandError(
                escape(
                    f"the policy {policy.name} has limits on bytes, and the sizes of the messages"
                    " are not known: leave these limits out of a copy of the policy, or put the"
                    " messages into an outbox, whose `outbox stats --policy` shows when they go"
                )
            )


def _with_grant(policy: Policy, sender: str) -> Policy:
    """Return `policy` with a grant for `sender` if the policy requires one."""
    if policy.grants is None:
        return policy
    try:
        return policy.evolve(grants=[*policy.grants, Grant(senders=[sender])])
    except ValueError as error:
        raise CommandError(escape(f"--sender: {error}")) from None


def _plan(
    policy: Policy, mailing: Mailing, backend: Backend | None, policies: int, console: Console
) -> Outcome:
    """Return the plan under `policy`, or the reason why there is none."""
    messages: Iterable[int | Envelope] = mailing.messages
    total = len(mailing.messages)
    if total * policies > PROGRESS_FROM:
        messages = with_progress(messages, f"Planning for {policy.name}", console, total=total)
    try:
        plan = plan_mailing(
            policy,
            messages,
            sender=mailing.sender,
            client=mailing.client,
            start=mailing.start,
            backend=backend,
            not_before=mailing.not_before,
            hours=mailing.hours,
        )
    except CannotFinish as error:
        if policies == 1:
            raise CommandError(escape(f"under {policy.name}, {error}")) from None
        return policy.name, error
    except ValueError as error:  # a start out of range
        raise CommandError(escape(str(error))) from None
    except BackendError as error:
        raise CommandError(escape(f"--store: {error}")) from None
    return policy.name, plan


def _print(outcomes: Sequence[Outcome], console: Console, zone: tzinfo, *, in_full: bool) -> None:
    first = outcomes[0][1]
    if in_full and isinstance(first, MailingPlan):
        print_plan(first, console, zone)
        if len(outcomes) > 1:
            console.print()
    if len(outcomes) > 1:
        print_comparison(outcomes, console)
