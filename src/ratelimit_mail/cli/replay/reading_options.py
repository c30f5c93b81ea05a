"""The options of `replay` that say how files are read, and what they do not say by themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.cli.readers import FORMATS
from ratelimit_mail.cli.readers.adjustments import Adjustments
from ratelimit_mail.cli.readers.base import DATE_ORDERS, ReadOptions, timezone_of
from ratelimit_mail.cli.readers.column_names import parse_columns
from ratelimit_mail.cli.replay.input import ReplayInput
from ratelimit_mail.client_tags import ClientTags

__all__ = ["reading_options"]

_OPTIONS = (
    click.option(
        "--format",
        "format_name",
        type=click.Choice(FORMATS),
        help="The format of FILES; by default it is recognized.",
    ),
    click.option(
        "--columns",
        multiple=True,
        metavar="FIELD=NAME,...",
        help="The columns of a CSV file, such as time=Received,sender=From.",
    ),
    click.option(
        "--date-order",
        type=click.Choice(DATE_ORDERS),
        help="How to read dates such as 03/04/2025.",
    ),
    click.option(
        "--timezone",
        metavar="ZONE",
        default="UTC",
        show_default=True,
        help="The zone of times without one, such as Europe/London.",
    ),
    click.option(
        "--year",
        type=click.IntRange(1970, 9999),
        help="The year of the first time, for syslog's times without a year.",
    ),
    click.option(
        "--client", metavar="ADDRESS|column:NAME", help="The clients' address, or its column."
    ),
    click.option(
        "--protocol", metavar="NAME|column:NAME", help="smtp, webmail or api, or its column."
    ),
    click.option(
        "--tag",
        "tags",
        multiple=True,
        metavar="WORD|column:NAME",
        help="A tag of all clients, or the column of tags. May be repeated.",
    ),
    click.option(
        "--networks",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="A table of networks and logins, and the tags of the clients that have them.",
    ),
    click.option(
        "--only-from",
        "sender_domains",
        multiple=True,
        metavar="DOMAIN",
        help="Only messages of senders in this domain; .DOMAIN: in its subdomains.",
    ),
)


def reading_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets `read_files` for them.

    `read_files(files)` returns a ReplayInput. It raises InputError if a file cannot be read.
    """

    @functools.wraps(function)
    def wrapper(
        *args: Any,
        format_name: str | None,
        columns: tuple[str, ...],
        date_order: str | None,
        timezone: str,
        year: int | None,
        client: str | None,
        protocol: str | None,
        tags: tuple[str, ...],
        networks: Path | None,
        sender_domains: tuple[str, ...],
        **kwargs: Any,
    ) -> Any:
        try:
            adjustments, more = Adjustments.from_options(
                client, protocol, tags, _networks(networks), sender_domains
            )
            by_field = parse_columns(columns)
            if twice := by_field.keys() & more.keys():
                raise ValueError(f"--columns: {min(twice)} is there, and in an option of its own")
            zone = timezone_of(timezone)
        except ValueError as error:
            raise CommandError(escape(str(error))) from None
        options = ReadOptions(
            columns={**by_field, **more}, date_order=date_order, timezone=zone, year=year
        )

        def read_files(files: Sequence[Path]) -> ReplayInput:
            return ReplayInput(files, options, adjustments, format_name)

        return function(*args, read_files=read_files, **kwargs)

    for option in reversed(_OPTIONS):
        wrapper = option(wrapper)
    return wrapper


def _networks(path: Path | None) -> ClientTags | None:
    if path is None:
        return None
    try:
        return ClientTags.load(path)
    except OSError as error:
        raise ValueError(f"--networks {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ValueError(f"--networks {error}") from None
