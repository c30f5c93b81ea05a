"""The command `replay`: its options, its help text and its steps."""

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
from ratelimit_mail.cli.replay.html.writer import HtmlReportWriter
from ratelimit_mail.cli.replay.input import ReplayInput
from ratelimit_mail.cli.replay.report import Report, as_json
from ratelimit_mail.cli.replay.run import replay
from ratelimit_mail.cli.replay.suggest import quota_of, suggest
from ratelimit_mail.cli.replay.terminal import print_report
from ratelimit_mail.cli.replay.time_bins import bins_for
from ratelimit_mail.cli.replay.timeline import Timeline
from ratelimit_mail.presets import PRESETS

__all__ = ["replay_command"]


def _percent(_: click.Context, __: click.Parameter, value: float) -> float:
    if not 0 <= value < 100:
        raise click.BadParameter(f"{value:g} is not a percentage, from 0 up to 100.")
    return value


@click.command("replay", epilog=f"Policies: {', '.join(PRESETS)}.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--policy", "name", required=True, metavar="NAME", help="One below, or a policy file."
)
@click.option("--compare", multiple=True, metavar="NAME", help="Compare another policy.")
@click.option("--suggest", "wants_numbers", is_flag=True, help="Suggest numbers for the limits.")
@click.option(
    "--touch",
    type=float,
    default=0.2,
    show_default=True,
    metavar="PERCENT",
    callback=_percent,
    help="The share of senders that --suggest lets a limit affect; marked in the report.",
)
@click.option(
    "--report",
    "page",
    type=click.Path(path_type=Path),
    metavar="HTML",
    help="Write a report with charts to this file.",
)
@click.option("--json", "wants_json", is_flag=True, help="Print a JSON object instead of tables.")
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

    Each message is tried once, at the time it was sent. The counts are empty at the
    start. Nothing is retried and nothing is sent. The exit code is 0 even if messages
    are refused, and 2 if FILE cannot be read.

    --report writes one HTML file with charts that any browser can open; it needs the
    extra [report]. --compare compares another policy with the first, and may be
    repeated. --suggest shows, for each limit by itself, the smallest number that would
    affect (defer or reject a message of) at most 0.2 % of the senders.

    FILE is a CSV file (.csv, .csv.gz), an mbox file or a Maildir directory. Messages
    that are out of order are sorted by time, and the output says how many there were.
    Rows that cannot be read are skipped and reported with their line.

    \b
    Columns of a CSV file, by the names in its first row:
      time         Unix seconds or ISO 8601, UTC if it has no time zone;
                   or unix_time, timestamp, date
      sender       an address; a NAME without "@" becomes NAME@replay.invalid;
                   empty or <> is the null sender of bounces
      recipients   addresses separated by spaces or semicolons, or a number;
                   or a number in n_recipients, or in count, or in n_to and n_cc
    Optional, for policies with tiers:
      client       the IP address; or address
      user         the login
      protocol     smtp, webmail or api
      tags         words such as wireless, separated by spaces or semicolons

    If only a number of recipients is known, that many external addresses are generated:
    recipient-1@replay.invalid, recipient-2@replay.invalid and so on, the same for every
    message.

    Only the headers of mbox and Maildir messages are read: the sender and recipients as
    smtplib does, the time from Date, or else from the topmost Received, or else from
    the "From " line. Nothing is known about their client, so western-convergence puts
    them in its stricter tier, tier 2. The same holds for a CSV row without a client.
    """
    try:
        policy = find_policy(name)
        compared = {each: find_policy(each) for each in compare if each != name}
        writer = None if page is None else HtmlReportWriter(page, file)
        mail = ReplayInput(file)
        needs_demand = writer is not None or wants_numbers
        timeline = Timeline(bins_for(mail.records.times() if needs_demand else [0]))
        callbacks = [] if writer is None else [timeline.add]
        tally = replay(policy, mail.envelopes("Replaying"), *callbacks)
        report = Report(
            file=os.fspath(file),
            format=mail.format,
            policy=policy.name,
            name=name,
            tally=tally,
            first=mail.records.first,
            last=mail.records.last,
            out_of_order=mail.records.out_of_order,
            rejected_rows=mail.rejected,
            compared={
                other: replay(compared[other], mail.envelopes(f"Replaying under {other}"))
                for other in compared
            },
            touch=touch,
        )
        if needs_demand:
            demand = Demand(policy, timeline.bins, mail.envelopes("Measuring"))
        if wants_numbers:
            quota = quota_of(touch, len(tally.by_sender))
            suggested = suggest(policy, demand, quota, mail.envelopes)
            report = attrs.evolve(report, suggested=suggested)
        if writer is not None:
            writer.write(report, policy, timeline, demand)
        if wants_json:
            click.echo(json.dumps(as_json(report), indent=2))
        else:
            print_report(report, Console())
    except InputError as error:
        raise CommandError(f"{escape(os.fspath(file))}: {escape(str(error))}") from None
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
