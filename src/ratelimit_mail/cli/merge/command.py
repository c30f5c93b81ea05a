"""The command `merge`: its options, its help text and its steps."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import attrs
import click
from rich.console import Console
from rich.text import Text

from ratelimit_mail._util.text import escape
from ratelimit_mail.backends import Backend
from ratelimit_mail.cli.errors import INTERRUPTED, CommandError, reported_errors
from ratelimit_mail.cli.find_policy import complete_policy, find_policy
from ratelimit_mail.cli.merge.letters import print_letter
from ratelimit_mail.cli.merge.sample import write_sample
from ratelimit_mail.cli.options import JSON
from ratelimit_mail.cli.outbox.options import messages_of
from ratelimit_mail.cli.plan.mailing import parse_moment, parse_zone
from ratelimit_mail.cli.plan.tables import times_table
from ratelimit_mail.cli.progress import with_progress
from ratelimit_mail.cli.store import opened_store
from ratelimit_mail.cli.tables import print_table
from ratelimit_mail.envelope import PROTOCOLS, Client, Envelope, message_size
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.mailing import (
    AttachmentFolder,
    Letter,
    Mailing,
    MergedLetter,
    Problem,
    read_people,
)
from ratelimit_mail.outbox import Outbox, State
from ratelimit_mail.planner import CannotFinish, MailingPlan, plan_mailing
from ratelimit_mail.policy import Policy

__all__ = ["merge_command"]

MOST_SHOWN: Final = 50
"""How many problems are reported one by one."""


@click.command("merge")
@click.argument("people_file", metavar="PEOPLE", type=click.Path(path_type=Path))
@click.argument("letter_file", metavar="LETTER", type=click.Path(path_type=Path))
@click.option(
    "--outbox",
    "outbox_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Put the letters into this outbox.",
)
@click.option(
    "--policy",
    "policy_name",
    metavar="NAME",
    shell_complete=complete_policy,
    help="A preset or a policy file.",
)
@click.option(
    "--store",
    "url",
    metavar="URL",
    envvar="RATELIMIT_MAIL_STORE",
    help="Where earlier messages were counted, for the plan; default: the environment variable"
    " RATELIMIT_MAIL_STORE.",
)
@click.option(
    "--preview",
    type=click.IntRange(1),
    metavar="N",
    help="Write the first N letters as .eml files; send nothing.",
)
@click.option(
    "--preview-folder",
    type=click.Path(path_type=Path),
    default="preview",
    show_default=True,
    help="Where --preview writes.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check, plan and print the first letter (with --no-limit: all); send nothing.",
)
@click.option(
    "--test-to",
    metavar="ADDRESS",
    help="Put only the first letter (or --limit N), for this address alone.",
)
@click.option("--limit", type=click.IntRange(0), metavar="N", help="At most N rows.")
@click.option("--no-limit", is_flag=True, help="All rows, also with --test-to and --dry-run.")
@click.option(
    "--resume", "first", type=click.IntRange(1), default=1, metavar="N", help="Begin with row N."
)
@click.option("--html", type=click.Path(path_type=Path), help="The template of an HTML part.")
@click.option(
    "--attach",
    multiple=True,
    metavar="COLUMN",
    help="A column that names files to attach; repeatable.",
)
@click.option(
    "--attach-from",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Attachments may be in this folder too; repeatable.",
)
@click.option(
    "--max-size",
    type=click.IntRange(1, 1000),
    default=25,
    show_default=True,
    metavar="MIB",
    help="The largest size of all attachments of a letter.",
)
@click.option("--key", metavar="COLUMN", help="What identifies a row; default: its address.")
@click.option("--name", help="The name of the mailing; default: that of LETTER.")
@click.option("--allow-duplicates", is_flag=True, help="An address may be in several rows.")
@click.option("--delimiter", metavar="CHARACTER", help="What separates cells; default: guessed.")
@click.option("--not-before", metavar="TIME", help="No letter goes before this time.")
@click.option("--expires", metavar="TIME", help="No letter goes after this time.")
@click.option("--time-zone", default="UTC", show_default=True, help="Such as Europe/London.")
@click.option("--priority", type=int, default=0, help="A higher one goes first.  [default: 0]")
@click.option("--client", "address", metavar="ADDRESS", help="The IP address of the client.")
@click.option("--protocol", type=click.Choice(PROTOCOLS), help="The protocol of the client.")
@click.option(
    "--tag", "tags", multiple=True, metavar="WORD", help="A tag of the client; repeatable."
)
@click.option(
    "--output-format",
    type=click.Choice(["text", "raw"]),
    default="text",
    help="How --dry-run prints letters.",
)
@click.option("--sample", is_flag=True, help="Write a sample PEOPLE and LETTER.")
@JSON
def merge_command(
    people_file: Path,
    letter_file: Path,
    outbox_file: Path | None,
    policy_name: str | None,
    url: str | None,
    preview: int | None,
    preview_folder: Path,
    dry_run: bool,
    test_to: str | None,
    limit: int | None,
    no_limit: bool,
    first: int,
    html: Path | None,
    attach: tuple[str, ...],
    attach_from: tuple[Path, ...],
    max_size: int,
    key: str | None,
    name: str | None,
    allow_duplicates: bool,
    delimiter: str | None,
    not_before: str | None,
    expires: str | None,
    time_zone: str,
    priority: int,
    address: str | None,
    protocol: str | None,
    tags: tuple[str, ...],
    output_format: str,
    sample: bool,
    wants_json: bool,
) -> None:
    """Put a letter to each person in a CSV file into an outbox, or only show the letters.

    PEOPLE is a CSV file whose first row names the columns. LETTER has headers, an empty line
    and the text, with the columns in braces: TO: {{ email }}. CONTENT-TYPE: text/markdown makes
    an HTML part, and ATTACHMENT: {{ file }} attaches a file.

    All rows are checked first. If any row is wrong, each wrong row is named, nothing is put into
    the outbox, and the exit code is 2. With --policy, the command predicts when the first letter,
    half of them and the last will be out; the plan includes what --store and the outbox have.

    `ratelimit-mail outbox run` sends the letters. If you run this command twice, nobody gets two
    letters: a letter that the outbox has is not put again.

    --json prints an object with the numbers and the plan, and no letters.
    """
    if sample:
        write_sample(people_file, letter_file)
        if wants_json:
            click.echo(json.dumps({"written": [str(people_file), str(letter_file)]}, indent=2))
        else:
            click.echo(escape(f"{people_file} and {letter_file} are written"))
        return
    stderr = Console(stderr=True)
    zone = parse_zone(time_zone)
    earliest = None if not_before is None else parse_moment("--not-before", not_before, zone)
    latest = None if expires is None else parse_moment("--expires", expires, zone)
    policy = None if policy_name is None else find_policy(policy_name)
    _check_options(outbox_file, policy, preview=preview, dry_run=dry_run)
    if limit is None and test_to is not None:
        limit = 1
    try:
        with reported_errors():
            client = Client(address=address, protocol=protocol, tags=tags)
            people = read_people(people_file, delimiter=delimiter)
            mailing = Mailing(
                Letter.load(letter_file, html=html, name=name, attach=attach),
                people,
                key=key,
                attachments=AttachmentFolder(people.folder, attach_from, max_size << 20),
                first=first,
                limit=None if no_limit else limit,
                test_to=test_to,
                allow_duplicates=allow_duplicates,
            )
            measures = policy is not None and policy.counts_bytes
            envelopes = _check(mailing, client, stderr, measures=measures)
            with _opened_outbox(outbox_file, policy) as outbox:
                keys = _keys_in(outbox, mailing.key_prefix)
                is_new = [key is None or key not in keys for key, _ in envelopes]
                plan, previews, put = None, [], None
                if not wants_json:
                    _print_numbers(mailing, len(is_new) - sum(is_new))
                if policy is not None:
                    with opened_store(url) as backend:
                        plan = _plan(policy, mailing, envelopes, is_new, outbox, backend, earliest)
                    if plan is not None and not wants_json:
                        print_table(times_table(plan, zone))
                if preview is not None:
                    previews = list(map(str, mailing.preview(preview, preview_folder)))
                    if not wants_json:
                        click.echo("\n".join(map(escape, previews)))
                if dry_run and not wants_json:
                    shown = None if no_limit or limit is not None else 1
                    _print_letters(mailing, shown, output_format)
                if preview is not None or dry_run or outbox is None:
                    if wants_json:
                        _print_json(mailing, is_new, plan, previews, put)
                    else:
                        click.echo("Nothing was put into an outbox.")
                    return
                letters = mailing.put_each(
                    outbox,
                    client=client,
                    priority=priority,
                    not_before=earliest,
                    expires=latest,
                    skip=lambda letter: letter.key in keys,
                )
                put = sum(1 for _ in with_progress(letters, "Putting", stderr, total=sum(is_new)))
                if wants_json:
                    _print_json(mailing, is_new, plan, previews, put)
                else:
                    click.echo(escape(f"{_letters(put)} put into {outbox_file}"))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _check_options(
    outbox: Path | None, policy: Policy | None, *, preview: int | None, dry_run: bool
) -> None:
    if outbox is None and preview is None and not dry_run:
        raise CommandError("one of --outbox FILE, --preview N and --dry-run is needed")
    if outbox is not None and policy is None:
        raise CommandError("with --outbox, --policy NAME is needed: the limits of the letters")


def _check(
    mailing: Mailing, client: Client, stderr: Console, *, measures: bool
) -> list[tuple[str | None, Envelope]]:
    """Return the key and the envelope of each letter; raise CommandError if a row is wrong.

    measures: whether the letters are measured, because limits need their sizes.
    """
    envelopes: list[tuple[str | None, Envelope]] = []

    def collect(letter: MergedLetter) -> None:
        size = message_size(letter.message) if measures else None
        envelope = Envelope.from_message(letter.message, client=client, size=size)
        envelopes.append((letter.key, envelope))

    with _progress_of(mailing, stderr):
        problems = mailing.check(collect)
    if problems:
        for problem in problems[:MOST_SHOWN]:
            stderr.print(Text(escape(str(problem))), soft_wrap=True)
        if len(problems) > MOST_SHOWN:
            stderr.print(f"and {len(problems) - MOST_SHOWN:,} more", soft_wrap=True)
        many = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
        raise CommandError(f"{many}; no letter was put into an outbox")
    return envelopes


@contextmanager
def _progress_of(mailing: Mailing, stderr: Console) -> Iterator[None]:
    rows = mailing.rows
    if stderr.file.isatty():
        with stderr.status(f"Checking {len(rows):,} rows"):
            yield
    else:
        yield


@contextmanager
def _opened_outbox(file: Path | None, policy: Policy | None) -> Iterator[Outbox | None]:
    if file is None or policy is None:
        yield None
        return
    with closing(Outbox(file, Limiter(policy))) as outbox:  # it only puts, and counts nothing
        yield outbox


def _keys_in(outbox: Outbox | None, prefix: str) -> set[str]:
    """Return the keys of a mailing that an outbox has."""
    if outbox is None:
        return set()
    return {each.key for each in messages_of(outbox) if each.key and each.key.startswith(prefix)}


def _queued(outbox: Outbox | None, sender: str, *, measures: bool) -> list[int | Envelope]:
    """Return the messages that a sender has in the queue, or their numbers of recipients."""
    if outbox is None:
        return []
    queued = messages_of(outbox, state=State.QUEUED, sender=sender)
    if not measures:
        return [len(each.recipients) for each in queued]
    return [
        Envelope(
            each.sender,
            [recipient.address for recipient in each.recipients],
            each.client,
            size=each.size,
        )
        for each in queued
    ]


def _plan(
    policy: Policy,
    mailing: Mailing,
    envelopes: Sequence[tuple[str | None, Envelope]],
    is_new: Sequence[bool],
    outbox: Outbox | None,
    backend: Backend | None,
    not_before: datetime | None,
) -> MailingPlan | None:
    """Return the plan of the letters that are not in the outbox yet; None if there are none.

    What the sender has in the queue goes first.
    """
    new = [
        (row, envelope)
        for row, (_, envelope), each in zip(mailing.rows, envelopes, is_new, strict=True)
        if each
    ]
    if not new:
        return None
    sender = new[0][1].sender
    ahead = _queued(outbox, sender, measures=policy.counts_bytes)
    messages: list[int | Envelope] = [*ahead, *(envelope for _, envelope in new)]
    try:
        plan = plan_mailing(
            policy,
            messages,
            sender=sender,
            client=new[0][1].client,
            backend=backend,
            not_before=not_before,
        )
    except CannotFinish as error:
        number = error.number - len(ahead) - 1
        if number < 0:
            raise CommandError(escape(f"a message in the outbox {error.why}")) from None
        problem = Problem(new[number][0], f"under {policy.name}, it {error.why}")
        raise CommandError(escape(str(problem))) from None
    return attrs.evolve(plan, delays=plan.delays[len(ahead) :], sizes=plan.sizes[len(ahead) :])


def _print_numbers(mailing: Mailing, in_outbox: int) -> None:
    text = f"{_letters(len(mailing.rows))}, each checked"
    if in_outbox:
        text += f"; {in_outbox:,} of them in the outbox already"
    click.echo(text)


def _print_letters(mailing: Mailing, most: int | None, output_format: str) -> None:
    for number, letter in enumerate(mailing.letters()):
        if number == most:
            break
        click.echo(f"\n{letter.row}")
        print_letter(letter.message, output_format)
    click.echo()


def _print_json(
    mailing: Mailing,
    is_new: Sequence[bool],
    plan: MailingPlan | None,
    previews: list[str],
    put: int | None,
) -> None:
    moments = ("start", "first", "half", "last")
    table = {
        "letters": len(mailing.rows),
        "in_outbox": len(is_new) - sum(is_new),
        "put": put,
        "previews": previews,
        "plan": plan and {name: getattr(plan, name).isoformat() for name in moments},
    }
    click.echo(json.dumps(table, indent=2))


def _letters(number: int) -> str:
    return "1 letter" if number == 1 else f"{number:,} letters"
