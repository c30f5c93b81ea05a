"""Read the main log of Exim.

The line with `<=` is the arrival of a message: its sender, client, login and, with the log selector
`received_recipients`, its recipients. Otherwise they are those of its lines with `=>`, `->`, `**`
and `==`, until it is completed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ratelimit_mail.cli.errors import RejectedRow
from ratelimit_mail.cli.readers.base import Item, Reading, Source, Start, numbered_lines, size_of
from ratelimit_mail.cli.readers.open_messages import TOO_LONG, OpenMessage, OpenMessages, item_of
from ratelimit_mail.cli.readers.postfix import NO_ARRIVAL, NOTICES, REFUSED
from ratelimit_mail.cli.readers.times import parse_time

__all__ = ["EximReader"]

_LINE: Final = re.compile(
    r"""
    ([0-9]{4}-[0-9]{2}-[0-9]{2}[ ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?)
    ([ ][+-][0-9]{4})?
    (?:[ ]\[[0-9]++\])?
    [ ](.*)
    """,
    re.VERBOSE | re.DOTALL,
)
_MESSAGE: Final = re.compile(
    r"([0-9A-Za-z]{6}-[0-9A-Za-z]{6,11}-[0-9A-Za-z]{2,4}) (<=|=>|->|>>|\*>|\*\*|==|Completed)(.*)",
    re.DOTALL,
)
_CLIENT: Final = re.compile(r" H=[^\[]*+\[([0-9A-Fa-f.:]++)\]")
_LOGIN: Final = re.compile(r" A=[^ :]++:([^ ]++)")
_LOCAL_USER: Final = re.compile(r" U=([^ ]++)")
_PROTOCOL: Final = re.compile(r" P=([^ ]++)")
_SIZE: Final = re.compile(r" S=([0-9]{1,12})(?= |\Z)")
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)


class EximReader:
    """The main log of Exim."""

    name = "exim"
    is_log = True

    def recognizes(self, start: Start) -> bool:
        """Return whether one of the first lines is of a message."""
        for line in start.lines:
            match = _LINE.fullmatch(line)
            if match is not None and _MESSAGE.match(match[3]):
                return True
        return False

    def read(self, sources: Iterable[Source], reading: Reading) -> Iterator[Item]:
        """Yield each message when it is completed, or at the end of the log."""
        log = _Log(reading)
        files = sorted(sources, key=_first_time)
        for where, text in numbered_lines(files):
            match = _LINE.fullmatch(text)
            if match is None:
                yield RejectedRow(where, "does not begin with a time as Exim writes it")
                continue
            message = _MESSAGE.match(match[3])
            if message is None:
                if " rejected " in match[3]:
                    reading.notes[REFUSED] += 1
                continue
            try:
                time = parse_time(match[1] + (match[2] or "").strip(), reading.options.timezone)
            except ValueError as error:
                yield RejectedRow(where, str(error))
                continue
            yield from log.add(message[1], where, time, message[2], message[3])
        yield from log.end()


def _first_time(source: Source) -> str:
    """Return the first time of a file, which sorts as text."""
    for line in source.start.lines:
        if match := _LINE.fullmatch(line):
            return match[1]
    return ""


class _Log:
    """The messages of one log."""

    def __init__(self, reading: Reading) -> None:
        self._notes = reading.notes
        self._open = OpenMessages(self._finish)

    def add(self, key: str, where: str, time: int, mark: str, text: str) -> Iterator[Item]:
        """Take a line of the message `key`; yield what is finished by it."""
        if mark == "<=":
            yield from self._open.add(key, _arrived(where, time, text))
            return
        if mark == "Completed":
            yield from self._open.close(key)
            return
        message = self._open.get(key)
        if message is None:
            if self._open.was_cut(key):
                return
            message = OpenMessage(where, time)
            yield from self._open.add(key, message)
        # With the recipients of the arrival, these add none: aliases stand in their place.
        recipient = _recipient(text)
        if recipient and not message.has_all_recipients:
            self._open.add_recipient(message, recipient)

    def end(self) -> Iterator[Item]:
        """Yield what the log has of messages that are still in the queue."""
        return self._open.close_all()

    def _finish(self, _: str, message: OpenMessage) -> Item | None:
        if message.left_out:
            self._notes[message.left_out] += 1
            return None
        if not message.has_arrival:
            return RejectedRow(message.where, NO_ARRIVAL)
        if message.is_cut and not message.recipients:
            return RejectedRow(message.where, TOO_LONG)
        return item_of(message)


def _arrived(where: str, time: int, text: str) -> OpenMessage:
    words = text.split(maxsplit=1)
    rest = f" {words[1]}" if len(words) == 2 else ""
    unquoted = _QUOTED.sub('""', rest)
    protocol = match[1] if (match := _PROTOCOL.search(unquoted)) else ""
    client, login, user, size = (x.search(unquoted) for x in (_CLIENT, _LOGIN, _LOCAL_USER, _SIZE))
    is_local = protocol.startswith("local")
    message = OpenMessage(
        where,
        time,
        sender=words[0] if words else "",
        address=client[1] if client else "",
        user=login[1] if login else user[1] if user and is_local else "",
        protocol="" if is_local or not protocol else "smtp",
        size=size_of(size[1]) if size else None,
        has_arrival=True,
    )
    if " R=" in unquoted and message.sender == "<>":
        message.left_out = NOTICES
    recipients = _listed(unquoted)
    message.recipients = dict.fromkeys(recipients)
    message.has_all_recipients = bool(recipients)
    return message


def _listed(text: str) -> Sequence[str]:
    """Return the recipients that stand after ` for ` at the end of an arrival."""
    _, found, recipients = text.rpartition(" for ")
    words = recipients.split() if found else []
    return words if all("@" in word for word in words) else []


def _recipient(text: str) -> str:
    """Return the recipient of a delivery: the original one, if it was redirected."""
    before, _, _ = text.strip().partition(": ")  # what follows is why it was not delivered
    words = before.split()
    if len(words) > 1 and words[1].startswith("<") and words[1].endswith(">"):
        return words[1][1:-1]
    return words[0].rstrip(":") if words else ""
