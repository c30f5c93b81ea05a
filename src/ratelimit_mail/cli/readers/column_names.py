"""Say which column of a CSV file has the time, the sender and so on, by the names in its header.

Names that the documentation lists are used as they are. Other common names are guessed, and the
user sees what was guessed. If two columns may be meant, the user has to say which one is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from ratelimit_mail._util.csv_rows import column_names
from ratelimit_mail._util.text import show
from ratelimit_mail.cli.errors import InputError

__all__ = ["FIELDS", "parse_columns", "with_known_names"]

DOCUMENTED: Final = {
    "time": ("time", "unix_time", "timestamp", "date"),
    "sender": ("sender",),
    "recipients": ("recipients",),
    "count": ("n_recipients", "count"),
    "n_to": ("n_to",),
    "n_cc": ("n_cc",),
    "client": ("client", "address"),
    "user": ("user",),
    "protocol": ("protocol",),
    "tags": ("tags",),
    "size": ("size",),
}

GUESSES: Final = {
    "time": "datetime sent sentat senttime sentdate senton datesent timesent sentdatetime received"
    " receivedat receivedtime receiveddate datereceived receiveddatetime dateutc timeutc"
    " datetimeutc timestamputc origintimestamp origintimestamputc origintime createdat created"
    " creationtime eventtime submitted submittime unixtime epoch epochtime zeit datum",
    "sender": "from senderaddress fromaddress mailfrom envelopefrom envelopesender returnpath"
    " senderemail fromemail emailfrom absender",
    "recipients": "to recipient recipientaddress recipientaddresses rcptto rcpt toaddress"
    " toaddresses recipientemail emailto envelopeto destination destinations recipientstatus"
    " empfanger empfaenger",
    "cc": "cc ccaddress ccrecipients",
    "bcc": "bcc bccaddress bccrecipients",
    "count": "recipientcount numrecipients nrcpt nrcpts numberofrecipients",
    "client": "clientip clientaddress fromip ip ipaddress sourceip remoteip originalclientip"
    " remoteaddress hostip",
    "user": "login username saslusername account authuser loginname",
    "protocol": "proto",
    "tags": "tag",
    "id": "",
}

FIELDS: Final = (
    "time",
    "sender",
    "recipients",
    "cc",
    "bcc",
    "count",
    "client",
    "user",
    "protocol",
    "tags",
    "size",
    "id",
)
"""What `--columns` can say the column of."""

_NOT_ALPHANUMERIC: Final = re.compile(r"[\W_]++")


def parse_columns(texts: Sequence[str]) -> dict[str, str]:
    """Return the columns that texts such as `time=Received,sender=From` name by their field.

    Raises ValueError if a text is not like that.
    """
    columns: dict[str, str] = {}
    for text in texts:
        for part in text.split(","):
            field, equals, name = part.partition("=")
            field, name = field.strip().lower(), name.strip()
            if not equals or not name:
                raise ValueError(f"{show(part)} is not a field and a column such as time=Received")
            if field not in FIELDS:
                raise ValueError(f"{show(field)} is not one of {', '.join(FIELDS)}")
            if field in columns:
                raise ValueError(f"{field} is there twice")
            columns[field] = name
    return columns


def with_known_names(
    header: Sequence[str], columns: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return `header` with the known name of each column of a field, and the guessed ones.

    columns: what the user says, by field: a name in the header, or the number of the column.
    Other columns keep a name that is not one of a field.

    Raises InputError if a column does not exist or several columns may be meant.
    """
    names = [name.strip().lower() for name in header]
    known = [f"\0{name}" for name in names]
    guessed: dict[str, str] = {}
    for field, name in columns.items():
        known[_column(header, name)] = field
    has_count = False
    for field, documented in DOCUMENTED.items():
        if field in columns:
            continue
        for name in documented:
            if name in names and known[names.index(name)].startswith("\0"):
                if names.count(name) > 1:
                    raise InputError(f"the header has the column {name!r} twice")
                known[names.index(name)] = name
    has_count = any(name in known for name in (*DOCUMENTED["count"], "n_to"))
    normal = [_NOT_ALPHANUMERIC.sub("", name) for name in names]
    for field, words in GUESSES.items():
        taken = (field, *DOCUMENTED.get(field, ()))
        if any(name in taken for name in known) or (field == "recipients" and has_count):
            continue
        candidates = [
            i
            for i, name in enumerate(normal)
            if name in words.split() and known[i].startswith("\0")
        ]
        if len(candidates) > 1:
            shown = " and ".join(show(header[i].strip()) for i in candidates[:2])
            raise InputError(
                f"the columns {shown} may both be the {field}: --columns {field}=NAME says which is"
            )
        for i in candidates:
            known[i] = field
            guessed[field] = header[i].strip()
    return known, guessed


def _column(header: Sequence[str], name: str) -> int:
    """Return the index of a column by its name, or by its number from 1."""
    lowered = [each.strip().lower() for each in header]
    if lowered.count(name.lower()) == 1:
        return lowered.index(name.lower())
    if name.lower() in lowered:
        raise InputError(f"the header has the column {name!r} twice: use its number")
    if name.isascii() and name.isdigit() and 1 <= int(name[:9]) <= len(header):
        return int(name) - 1
    raise InputError(f"no column {show(name)}; the header has {column_names(header)}")
