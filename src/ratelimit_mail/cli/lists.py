"""The commands `list …`: create mailing lists in a file, and let people subscribe and leave."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import click
from rich.console import Console
from rich.text import Text

from ratelimit_mail._util.text import escape
from ratelimit_mail.addresses import folded
from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.cli.help import CommandGroup
from ratelimit_mail.cli.tables import cells, number_of, print_table, table_of, two_columns
from ratelimit_mail.directory import ListFile, MailingList, PastedText, parse_addresses
from ratelimit_mail.directory.list_file import Member, MembershipChange
from ratelimit_mail.directory.pasted_text import LONGEST_TEXT, UnreadableText

__all__ = ["list_commands"]

MOST_SHOWN = 20
"""How many pieces of a text that are not addresses are reported one by one."""

FILE = click.argument("file", type=click.Path(path_type=Path))
LIST = click.argument("list_address", metavar="LIST")
BY = click.option(
    "--by",
    metavar="ADDRESS",
    help="Who asks for the change, with that person's rights; default: you, as the administrator.",
)
JSON = click.option("--json", "wants_json", is_flag=True, help="Print JSON instead of text.")
SETTINGS = (
    click.option(
        "--subscription",
        type=click.Choice(["closed", "open"]),
        help="Who may subscribe; open: anybody.",
    ),
    click.option(
        "--posting",
        type=click.Choice(["open", "moderated", "named"]),
        help="Who may post; named: only posters; moderated: other messages are held.",
    ),
    click.option(
        "--poster",
        "posters",
        multiple=True,
        metavar="ADDRESS",
        help="Who may always post; repeatable.",
    ),
    click.option(
        "--moderator",
        "moderators",
        multiple=True,
        metavar="ADDRESS",
        help="Who approves; repeatable.",
    ),
    click.option("--exempt/--not-exempt", default=None, help="Exempt from the rate limits."),
)


def settings(command: Any) -> Any:
    """Add the options for the settings of a list."""
    for option in reversed(SETTINGS):
        command = option(command)
    return command


@click.group("list", cls=CommandGroup)
def list_commands() -> None:
    """Create mailing lists, and let people subscribe and leave.

    FILE is the file that `lists_file` in a policy file names. Each change is recorded with its
    time and who asked for it. A running limiter sees it within a second.
    """


@list_commands.command("create")
@FILE
@LIST
@settings
@JSON
def create(file: Path, list_address: str, wants_json: bool, **options: Any) -> None:
    """Create the list LIST in FILE. A missing FILE is created."""
    with _errors(file):
        lists = _open(file, create=True)
        lists.add_list(MailingList(list_address, **_set(options)))
        mailing_list = lists.settings(list_address)
    if wants_json:
        click.echo(json.dumps(_settings_as_json(mailing_list), indent=2))
    else:
        click.echo(f"{escape(list_address)}: created")


@list_commands.command("set")
@FILE
@LIST
@settings
@JSON
def change(file: Path, list_address: str, wants_json: bool, **options: Any) -> None:
    """Change settings of LIST. --poster and --moderator replace all earlier ones."""
    changes = _set(options)
    if not changes:
        raise CommandError("a setting is needed, such as --posting moderated")
    with _errors(file):
        lists = _open(file)
        lists.change_list(list_address, **changes)
        mailing_list = lists.settings(list_address)
    if wants_json:
        click.echo(json.dumps(_settings_as_json(mailing_list), indent=2))
    else:
        click.echo(f"{escape(list_address)}: changed")


@list_commands.command("delete")
@FILE
@LIST
@JSON
def delete(file: Path, list_address: str, wants_json: bool) -> None:
    """Delete LIST and its history."""
    with _errors(file):
        _open(file).remove_list(list_address)
    if wants_json:
        click.echo(json.dumps({"list": list_address, "deleted": True}, indent=2))
    else:
        click.echo(f"{escape(list_address)}: deleted")


@list_commands.command("subscribe")
@FILE
@LIST
@click.argument("text", type=click.File("rb"), default="-")
@BY
@click.option("--replace", is_flag=True, help="Members who are not in TEXT leave.")
@click.option("--skip-unreadable", is_flag=True, help="Subscribe the others if some are wrong.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@JSON
def subscribe(
    file: Path,
    list_address: str,
    text: BinaryIO,
    by: str | None,
    replace: bool,
    skip_unreadable: bool,
    dry_run: bool,
    wants_json: bool,
) -> None:
    """Subscribe all addresses in TEXT, a file or (by default) the input.

    Write an address alone, or in angle brackets after a name. Line breaks, commas and semicolons
    separate addresses. A line that begins with # is a comment.

    If any part of TEXT is not an address, nothing changes and the exit code is 2.
    """
    pasted = _read(text)
    if pasted.unreadable:
        _report(pasted.unreadable)
        if not skip_unreadable:
            raise CommandError(
                f"{number_of(len(pasted.unreadable), 'piece')} of the text cannot be read;"
                " nothing was changed (--skip-unreadable subscribes the others)"
            )
    with _errors(file):
        lists = _open(file)
        if dry_run:
            new, leaving = _changes(lists.members(list_address), pasted, replace=replace)
            if wants_json:
                _print_changes(new, leaving, pasted, is_done=False)
            else:
                _print_dry_run(new, leaving, replace=replace)
            return
        put = lists.set_members if replace else lists.subscribe
        changes = put(list_address, pasted.addresses, by=by)
    if wants_json:
        leaving = [each.address for each in changes if each.action == "left"]
        new = [each.address for each in changes if each.action != "left"]
        _print_changes(new, leaving, pasted, is_done=True)
        return
    left = sum(each.action == "left" for each in changes)
    subscribed = len(changes) - left
    summary = (
        f"{escape(list_address)}: {number_of(subscribed, 'address')} subscribed,"
        f" {len(pasted.addresses) - subscribed:,} already a member,"
        f" {len(pasted.repeated):,} repeated"
    )
    click.echo(f"{summary}, {left:,} left" if replace else summary)


@list_commands.command("unsubscribe")
@FILE
@LIST
@click.argument("members", nargs=-1, required=True, metavar="ADDRESS...")
@BY
@JSON
def unsubscribe(
    file: Path, list_address: str, members: tuple[str, ...], by: str | None, wants_json: bool
) -> None:
    """Let each ADDRESS leave LIST; none leaves if one of them is not a member."""
    with _errors(file):
        changes = _open(file).unsubscribe(list_address, members, by=by)
    if wants_json:
        click.echo(json.dumps({"left": [each.address for each in changes]}, indent=2))
    else:
        click.echo(f"{escape(list_address)}: {number_of(len(changes), 'address')} left")


@list_commands.command("show")
@FILE
@click.argument("list_address", metavar="LIST", required=False)
@JSON
def show_command(file: Path, list_address: str | None, wants_json: bool) -> None:
    """Show all lists in FILE, or the settings and members of LIST."""
    with _errors(file):
        lists = _open(file)
        if list_address is None:
            _print_lists(lists, wants_json=wants_json)
            return
        members = lists.members(list_address)
        mailing_list = lists.settings(list_address)
    if wants_json:
        table = {**_settings_as_json(mailing_list), "members": list(map(_as_json, members))}
        click.echo(json.dumps(table, indent=2))
        return
    console = Console()
    console.print(Text(escape(mailing_list.address), style="bold"), soft_wrap=True)
    print_table(two_columns(_settings_in_words(mailing_list)), console)
    table_of_members = table_of("member", "since (UTC)", "by", "name")
    for member in members:
        table_of_members.add_row(*cells(member.address, member.since, member.by, member.name))
    console.print()
    if members:
        print_table(table_of_members, console)
    else:
        console.print("No members.")


@list_commands.command("history")
@FILE
@LIST
@click.option("--member", metavar="ADDRESS", help="Only the changes of this address.")
@JSON
def history(file: Path, list_address: str, member: str | None, wants_json: bool) -> None:
    """Show who subscribed to LIST and who left it, when, and who asked for it."""
    with _errors(file):
        changes = [
            each
            for each in _open(file).history(list_address)
            if member is None or folded(each.address) == folded(member)
        ]
    if wants_json:
        click.echo(json.dumps(list(map(_as_json, changes)), indent=2))
        return
    table = table_of("time (UTC)", "change", "address", "by")
    for each in changes:
        table.add_row(*cells(each.at, each.action, each.address, each.by))
    if changes:
        print_table(table)
    else:
        click.echo("No changes.")


def _set(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are present."""
    return {name: value for name, value in options.items() if value not in (None, ())}


def _open(file: Path, *, create: bool = False) -> ListFile:
    return ListFile(file, create=create, administrator=_user())


def _user() -> str:
    """Return the name that is recorded for changes without --by."""
    try:
        name = escape(getpass.getuser())[:200]
    except (OSError, KeyError, ImportError):  # a user without a name
        name = ""
    return name or "administrator"


@contextmanager
def _errors(file: Path) -> Iterator[None]:
    """Turn an error of the file or of an argument into one line on stderr."""
    try:
        yield
    except FileNotFoundError:
        raise CommandError(
            escape(f"{file}: there is no such file; `ratelimit-mail list create` creates one")
        ) from None
    except OSError as error:
        raise CommandError(escape(f"{file}: {error.strerror or error}")) from None
    except (ValueError, TypeError) as error:
        raise CommandError(escape(str(error))) from None


def _read(text: BinaryIO) -> PastedText:
    contents = text.read(4 * LONGEST_TEXT + 1)
    try:
        return parse_addresses(contents.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = contents.count(b"\n", 0, error.start) + 1
        raise CommandError(f"the text is not UTF-8 (line {line:,})") from None
    except ValueError as error:
        raise CommandError(escape(str(error))) from None


def _changes(
    members: tuple[Member, ...], pasted: PastedText, *, replace: bool
) -> tuple[list[str], list[str]]:
    """Return the addresses that would be subscribed, and those that would leave."""
    old = {folded(each.address) for each in members}
    new = [each.address for each in pasted.addresses if folded(each.address) not in old]
    stay = {folded(each.address) for each in pasted.addresses}
    leaving = [each.address for each in members if folded(each.address) not in stay]
    return new, leaving if replace else []


def _print_dry_run(new: list[str], leaving: list[str], *, replace: bool) -> None:
    for each in new:
        click.echo(escape(each))
    for each in leaving:
        click.echo(escape(f"- {each}"))
    text = f"{number_of(len(new), 'address')} would be subscribed"
    if replace:
        text += f" and {len(leaving):,} would leave"
    click.echo(f"{text}; nothing was changed")


def _print_changes(
    subscribed: list[str], left: list[str], pasted: PastedText, *, is_done: bool
) -> None:
    table = {
        "changed": is_done,
        "subscribed": subscribed,
        "left": left,
        "already_members": len(pasted.addresses) - len(subscribed),
        "repeated": len(pasted.repeated),
        "unreadable": [str(each) for each in pasted.unreadable],
    }
    click.echo(json.dumps(table, indent=2))


def _report(unreadable: tuple[UnreadableText, ...]) -> None:
    for each in unreadable[:MOST_SHOWN]:
        click.echo(escape(str(each)), err=True)
    if len(unreadable) > MOST_SHOWN:
        click.echo(f"and {len(unreadable) - MOST_SHOWN:,} more", err=True)


def _settings_as_json(mailing_list: MailingList) -> dict[str, Any]:
    return {
        "list": mailing_list.address,
        "subscription": mailing_list.subscription,
        "posting": mailing_list.posting,
        "posters": list(mailing_list.posters),
        "moderators": list(mailing_list.moderators),
        "exempt": mailing_list.exempt,
    }


def _settings_in_words(mailing_list: MailingList) -> Iterator[tuple[str, str]]:
    yield "subscription", mailing_list.subscription
    yield "posting", mailing_list.posting
    if mailing_list.posters:
        yield "posters", ", ".join(mailing_list.posters)
    if mailing_list.moderators:
        yield "moderators", ", ".join(mailing_list.moderators)
    if mailing_list.exempt:
        yield "exempt", "from the rate limits"


def _print_lists(lists: ListFile, *, wants_json: bool) -> None:
    if wants_json:
        rows = [{**_settings_as_json(each), "members": len(each.members)} for each in lists.lists]
        click.echo(json.dumps(rows, indent=2))
        return
    table = table_of("list", "members", "subscription", "posting")
    for each in lists.lists:
        row = (each.address, f"{len(each.members):,}", each.subscription, each.posting)
        table.add_row(*cells(*row))
    if lists.lists:
        print_table(table)
    else:
        click.echo("No lists.")


def _as_json(value: Member | MembershipChange) -> dict[str, Any]:
    return {
        name: each.isoformat() if isinstance(each, datetime) else each
        for name, each in attrs.asdict(value).items()
    }
