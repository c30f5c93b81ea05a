"""The command `replay`: what a policy would have done to messages that were sent."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import attrs
import click
from rich.console import Console

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.errors import INTERRUPTED, CommandError, InputError
from ratelimit_mail.cli.find_policy import find_policy
from ratelimit_mail.cli.replay.demand import Demand
from ratelimit_mail.cli.replay.html.loader import Drawing
from ratelimit_mail.cli.replay.input import Mail
from ratelimit_mail.cli.replay.outcome import Report, as_json
from ratelimit_mail.cli.replay.run import replay
from ratelimit_mail.cli.replay.suggest import quota_of, suggest
from ratelimit_mail.cli.replay.terminal import print_report
from ratelimit_mail.cli.replay.time_bins import bins_for
from ratelimit_mail.cli.replay.timeline import Timeline
from ratelimit_mail.presets import PRESETS

__all__ = ["replay_command"]


def _percent(_: click.Context, __: click.Parameter, value: float) -> float:
    if not 0 <= value < 100:
        raise click.BadParameter(f"{value:g} is no share in percent, from 0 up to 100.")
    return value


@click.command("replay", epilog=f"Policies: {', '.join(PRESETS)}.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--policy", "name", required=True, metavar="NAME", help="One below, or a policy file."
)
@click.option("--compare", multiple=True, metavar="NAME", help="Another one, side by side.")
@click.option("--suggest", "wants_numbers", is_flag=True, help="Show what would touch few.")
@click.option(
    "--touch",
    type=float,
    default=0.2,
    show_default=True,
    metavar="PERCENT",
    callback=_percent,
    help="The share of senders that --suggest lets a limit touch, marked in the report.",
)
@click.option(
    "--report",
    "page",
    type=click.Path(path_type=Path),
    metavar="HTML",
    help="Write a report with pictures to this file.",
)
@click.option("--json", "wants_json", is_flag=True, help="Print one JSON object, no tables.")
def replay_command(
    file: Path,
    name: str,
    compare: tuple[str, ...],
    wants_numbers: bool,
    touch: float,
    page: Path | None,
    wants_json: bool,
) -> None:
    """Show what a policy would have done to the messages in FILE.

    Every message is tried once, at its own time, against empty counts at the start;
    nothing is retried, and nothing is sent. The exit code is 0 also where messages are
    refused, and 2 where FILE cannot be read.

    --report writes one HTML file with pictures, to be opened in any browser; it needs
    the extra [report]. --compare shows another policy beside the first, and may be given
    several times. --suggest shows, for each limit by itself, the smallest number that
    would touch (defer or reject a message of) no more than 0.2 % of the senders.

    FILE is a CSV file (.csv, .csv.gz), an mbox file or a Maildir directory. Messages
    that are out of order are sorted by time, and the output says how many there were.
    RejectedRow rows are told with their number and left out.

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
        policy = find_policy(name)
        others = {other: find_policy(other) for other in compare if other != name}
        drawing = None if page is None else Drawing(page, file)
        mail = Mail(file)
        timeline = Timeline(bins_for(mail.messages.times()))
        tally = replay(policy, mail.tries("Replaying"), timeline.add)
        report = Report(
            file=os.fspath(file),
            format=mail.format,
            policy=policy.name,
            given=name,
            tally=tally,
            first=mail.messages.first,
            last=mail.messages.last,
            out_of_order=mail.messages.out_of_order,
            broken=mail.broken,
            compared={
                other: replay(others[other], mail.tries(f"Replaying under {other}"))
                for other in others
            },
            touch=touch,
        )
        if drawing is not None or wants_numbers:
            demand = Demand(policy, timeline.bins, mail.tries("Measuring"))
        if wants_numbers:
            quota = quota_of(touch, len(tally.by_sender))
            suggested = suggest(policy, demand, quota, mail.tries)
            report = attrs.evolve(report, suggested=suggested)
        if drawing is not None:
            drawing.write(report, policy, timeline, demand)
        if wants_json:
            click.echo(json.dumps(as_json(report), indent=2))
        else:
            print_report(report, Console())
    except InputError as error:
        raise CommandError(f"{escape(os.fspath(file))}: {escape(str(error))}") from None
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
