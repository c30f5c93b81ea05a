"""The command `replay`: what a policy would have done to messages that were sent."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click
from rich.console import Console

from ratelimit_mail.cli.complaints import Complaints
from ratelimit_mail.cli.errors import Broken, InputError
from ratelimit_mail.cli.escaping import safe
from ratelimit_mail.cli.failing import INTERRUPTED, Complaint
from ratelimit_mail.cli.messages import Messages
from ratelimit_mail.cli.policies import find_policy
from ratelimit_mail.cli.progress import watched
from ratelimit_mail.cli.readers import Source, open_source
from ratelimit_mail.cli.replaying import replay
from ratelimit_mail.cli.report import Report, as_json
from ratelimit_mail.cli.tables import print_report
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets import PRESETS

__all__ = ["replay_command"]


@click.command("replay", epilog=f"Policies: {', '.join(PRESETS)}.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--policy", "name", required=True, metavar="NAME", help="One of those below.")
@click.option("--json", "wants_json", is_flag=True, help="Print one JSON object, no tables.")
def replay_command(file: Path, name: str, wants_json: bool) -> None:
    """Show what a policy would have done to the messages in FILE.

    Every message is tried once, at its own time, against empty counts at the start;
    nothing is retried, and nothing is sent. The exit code is 0 also where messages are
    refused, and 2 where FILE cannot be read.

    FILE is a CSV file (.csv, .csv.gz), an mbox file or a Maildir directory. Messages
    that are out of order are sorted by time, and the output says how many there were.
    Broken rows are told with their number and left out.

    \b
    Columns of a CSV file, by the names in its first row:
      time         Unix seconds or ISO 8601, UTC where no zone is given;
                   or unix_time, timestamp, date
      sender       an address; without an "@" it is taken as NAME@replay.invalid;
                   empty or <> is the null sender of bounces
      recipients   addresses separated by spaces or semicolons, or a number;
                   or a number in n_recipients, or in count, or in n_to and n_cc
    Optional, for policies whose tiers ask who submits:
      client       the IP address; or address
      user         the login
      protocol     smtp, webmail or api
      tags         words such as wireless, separated by spaces or semicolons

    Where only a number of recipients is known, that many external addresses are made
    up: recipient-1@replay.invalid, recipient-2@replay.invalid and so on, the same for
    every message.

    Of mbox and Maildir messages only the header is read: the sender and recipients as
    smtplib takes them, the time from Date, else the topmost Received, else the "From "
    line. Nothing is known of their client, which puts it in tier 2, the strict
    one, of western-convergence, as does a CSV row without a client.
    """
    try:
        report = _replay(file, find_policy(name))
        if wants_json:
            click.echo(json.dumps(as_json(report), indent=2))
        else:
            print_report(report, Console())
    except InputError as error:
        raise Complaint(f"{safe(os.fspath(file))}: {safe(str(error))}") from None
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _replay(file: Path, policy: Policy) -> Report:
    console = Console(stderr=True)
    complaints = Complaints(console)
    source = open_source(file)
    messages = _gather(source, complaints, console)
    tries = watched(messages.in_order(), "Replaying", console, total=len(messages))
    return Report(
        file=os.fspath(file),
        format=source.format,
        policy=policy.name,
        tally=replay(policy, tries),
        first=messages.first,
        last=messages.last,
        out_of_order=messages.out_of_order,
        broken=complaints.count,
    )


def _gather(source: Source, complaints: Complaints, console: Console) -> Messages:
    messages = Messages()
    for item in watched(source, "Reading", console):
        if isinstance(item, Broken):
            complaints.add(item)
        else:
            messages.append(item)
    complaints.close()
    if not messages:
        broken = f", only broken rows: {complaints.count:,}" if complaints.count else ""
        raise InputError(f"has no messages{broken}")
    return messages
