"""Options that several commands have, and how lengths of time are read."""

from __future__ import annotations

import re
from typing import Final

import click

from ratelimit_mail._util.text import escape

__all__ = ["JSON", "STORE", "list_of_seconds", "seconds"]

STORE = click.option(
    "--store",
    "url",
    metavar="URL",
    envvar="RATELIMIT_MAIL_STORE",
    help="Where messages are counted; default: the environment variable RATELIMIT_MAIL_STORE.",
)
JSON = click.option("--json", "wants_json", is_flag=True, help="Print JSON instead of text.")

_NAMES: Final = {
    1.0: "s sec secs second seconds",
    60.0: "m min mins minute minutes",
    3600.0: "h hr hrs hour hours",
    86400.0: "d day days",
    604800.0: "w week weeks",
}

UNITS: Final = {"": 1.0, **{name: size for size, names in _NAMES.items() for name in names.split()}}
_SECONDS: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*([a-z]{0,7})")


def seconds(
    context: click.Context,  # noqa: ARG001 - click passes it
    parameter: click.Parameter,  # noqa: ARG001
    value: str | None,
) -> float | None:
    """Return the seconds of an option such as 90, 90s, 30m, "30 min", 2h or 5d."""
    return None if value is None else _seconds(value)


def list_of_seconds(
    context: click.Context,  # noqa: ARG001 - click passes it
    parameter: click.Parameter,  # noqa: ARG001
    value: str | None,
) -> tuple[float, ...] | None:
    """Return the seconds of an option such as 30m,2h,3h."""
    return None if value is None else tuple(map(_seconds, value.split(",")))


def _seconds(text: str) -> float:
    match = _SECONDS.fullmatch(text.strip().lower())
    if match is None or match[2] not in UNITS:
        raise click.BadParameter(f"{escape(text[:40])} is not a time such as 90s, 30m, 2h or 5d")
    return float(match[1]) * UNITS[match[2]]
