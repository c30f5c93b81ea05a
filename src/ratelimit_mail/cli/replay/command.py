"""The command `replay`: its options, its help text and its steps."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import click
from rich.console import Console

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.errors import INTERRUPTED, CommandError, InputError
from ratelimit_mail.cli.find_policy import POLICY_NAME, complete_policy, find_policy
from ratelimit_mail.cli.html.writer import PageWriter
from ratelimit_mail.cli.replay.by_tier import ByTier
from ratelimit_mail.cli.replay.demand import Demand
from ratelimit_mail.cli.replay.heavy_senders import BusyDays, HeavySender, heavy_senders
from ratelimit_mail.cli.replay.input import ReplayInput
from ratelimit_mail.cli.replay.reading_options import reading_options
from ratelimit_mail.cli.replay.report import Report, as_json
from ratelimit_mail.cli.replay.retry import Delays, retry
from ratelimit_mail.cli.replay.run import replay
from ratelimit_mail.cli.replay.sender_delays import SenderDelays
from ratelimit_mail.cli.replay.suggest import quota_of, suggest
from ratelimit_mail.cli.replay.terminal import print_report
from ratelimit_mail.cli.replay.tier_report import tier_json
from ratelimit_mail.cli.replay.time_bins import bins_for
from ratelimit_mail.cli.replay.timeline import Timeline
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets import PRESETS

__all__ = ["replay_command"]


def _names(files: Sequence[Path]) -> str:
    """Return the names of the files, not too many."""
    more = f" and {len(files) - 3} more" if len(files) > 4 else ""
    return ", ".join(map(os.fspath, files[: 3 if more else 4])) + more


def _percent(_: click.Context, __: click.Parameter, value: float) -> float:
    if not 0 <= value < 100:
        raise click.BadParameter(f"{value:g} is not a percentage, from 0 up to 100.")
    return value


@click.command("replay", epilog=f"Policies: {', '.join(PRESETS)}.")
@click.argument(
    "files", nargs=-1, required=True, metavar="FILES...", type=click.Path(path_type=Path)
)
@click.option(
    "--policy",
    "name",
    type=POLICY_NAME,
    required=True,
    metavar="NAME",
    shell_complete=complete_policy,
    help="A preset below, or a policy file.",
)
@click.option(
    "--compare",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_policy,
    help="Compare another policy.",
)
@click.option("--retry", "wants_retry", is_flag=True, help="Try deferred messages again.")
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
@reading_options
def replay_command(
    files: tuple[Path, ...],
    read_files: Callable[[Sequence[Path]], ReplayInput],
    name: str,
    compare: tuple[str, ...],
    wants_retry: bool,
    wants_numbers: bool,
    touch: float,
    page: Path | None,
    wants_json: bool,
) -> None:
    """Show what a policy would have done to the messages in FILES.

    Each message is tried once, at the time it was sent. The counts are empty at the
    start. Nothing is sent. The exit code is 0 even if messages are refused, and 2 if
    a file cannot be read.

    --retry also follows deferred messages until they may go, and prints how late they
    would have been. --report writes one HTML file that any browser can open: a summary
    in sentences, who is affected, how late, and when; it needs the extra [report].
    --compare compares another policy with the first, and may be repeated. --suggest
    shows, for each limit by itself, the smallest number that would affect (defer or
    reject a message of) at most 0.2 % of the senders, and the next round one; and again
    without the mail of senders that look like a theft or like bulk mail, which it names.

    FILES are a CSV file, an mbox file or a Maildir directory, the log of Postfix (also
    from journalctl) or Exim, a message trace of Exchange Online, message tracking logs
    of Exchange Server, the export of Google's Email Log Search, or events of Amazon SES
    as JSON lines. The format is recognized; --format names it. "-" is standard input.
    Files may be compressed with gzip, bzip2, xz or zstd. Several files of one format
    are replayed together, and rotated logs may be in any order.

    Messages that are out of order are sorted by time. Rows that cannot be read are
    skipped and reported with their line. Rows that are left out on purpose are counted.

    \b
    Columns of a CSV file, by the names in its first row:
      time         Unix time, ISO 8601 or a date as in mail; or unix_time, timestamp,
                   date
      sender       an address; a NAME without "@" becomes NAME@replay.invalid;
                   empty or <> is the null sender of bounces
      recipients   addresses separated by blanks, commas or semicolons, or a number;
                   or a number in n_recipients, or in count, or in n_to and n_cc
    Optional, for policies with tiers:
      client       the IP address; or address
      user         the login
      protocol     smtp, webmail or api
      tags         words such as wireless, separated by blanks or semicolons
    For policies with limits on bytes:
      size         bytes of the message
    Other common names are recognized, and --columns names other columns.

    If only a number of recipients is known, that many external addresses are generated:
    recipient-1@replay.invalid, recipient-2@replay.invalid and so on, the same for every
    message.

    If nothing is known about a client, western-convergence puts it in its stricter tier,
    tier 2. --client, --protocol, --tag and --networks describe the clients if the files
    do not.
    """
    try:
        policy = find_policy(name)
        compared = {each: find_policy(each) for each in compare if each != name}
        writer = None if page is None else PageWriter(page, *files)
        mail = read_files(files)
        if any(each.counts_bytes for each in (policy, *compared.values())):
            mail.use_sizes()
        needs_demand = writer is not None or wants_numbers
        timeline = Timeline(bins_for(mail.records.times() if needs_demand else [0]))
        callbacks = [] if writer is None else [timeline.add]
        by_tier = ByTier(policy) if policy.tiers else None
        if by_tier is not None:
            callbacks.append(by_tier.add)
        busy_days = BusyDays(policy) if wants_numbers else None
        if busy_days is not None:
            callbacks.append(busy_days.add)
        tally = replay(policy, mail.envelopes("Replaying"), *callbacks)
        heavy: list[HeavySender] = []
        if busy_days is not None:
            heavy = heavy_senders(policy, busy_days, mail.envelopes)
            # It has numbers of each sender, whose memory is needed for what follows.
            callbacks.clear()
            busy_days = None
        report = Report(
            file=_names(files),
            format=mail.format,
            policy=policy.name,
            name=name,
            tally=tally,
            first=mail.records.first,
            last=mail.records.last,
            out_of_order=mail.records.out_of_order,
            rejected_rows=mail.rejected,
            reasons=mail.reasons,
            notes=mail.notes,
            timezone=mail.timezone,
            compared={
                other: replay(compared[other], mail.envelopes(f"Replaying under {other}"))
                for other in compared
            },
            touch=touch,
            heavy=heavy,
            by_tier=by_tier,
        )
        sender_delays = SenderDelays(policy)
        if wants_retry or writer is not None:
            callbacks_of_retry = [] if writer is None else [sender_delays.add]
            delays = retry(policy, mail.envelopes("Replaying with retries"), *callbacks_of_retry)
            report = attrs.evolve(report, delays=delays if wants_retry else None)
        if needs_demand:
            demand = Demand(policy, timeline.bins, mail.envelopes("Measuring"))
        if wants_numbers:
            apart = [each.key for each in heavy if each.is_set_apart]
            senders = len(tally.by_sender)
            suggested = suggest(
                policy,
                demand,
                quota_of(touch, senders),
                mail.envelopes,
                apart=apart,
                quota_without=quota_of(touch, senders - len(apart)),
            )
            report = attrs.evolve(report, suggested=suggested)
        if writer is not None:
            policies = {name: policy, **compared}
            with_retries = {name: delays}
            for other, each in compared.items():
                label = f"Replaying with retries under {other}"
                with_retries[other] = retry(each, mail.envelopes(label))
            _write_page(writer, report, policies, timeline, demand, with_retries, sender_delays)
        if wants_json:
            click.echo(json.dumps({**as_json(report), **tier_json(report)}, indent=2))
        else:
            print_report(report, Console())
    except InputError as error:
        raise CommandError(f"{escape(_names(files))}: {escape(str(error))}") from None
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _write_page(
    writer: PageWriter,
    report: Report,
    policies: dict[str, Policy],
    timeline: Timeline,
    demand: Demand,
    delays: dict[str, dict[str | None, Delays]],
    sender_delays: SenderDelays,
) -> None:
    """Write the page of a replay, whose modules need jinja2: it is there, as `writer` is."""
    from ratelimit_mail.cli.replay.html.page import replay_page
    from ratelimit_mail.cli.replay.html.results import Results

    results = Results(
        report=report,
        policies=policies,
        timeline=timeline,
        demand=demand,
        delays=delays,
        sender_delays=sender_delays,
    )
    writer.write(replay_page(results))
