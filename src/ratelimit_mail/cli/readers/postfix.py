"""Read the log of Postfix: syslog's mail log, or what journalctl prints.

A message is what arrives by SMTP or sendmail. Its lines are joined by its queue id: `client=` or
`uid=` is its arrival, `from=` its sender, each `to=` a recipient (`orig_to=`, if an alias stood in
its place), and `removed` its end. Messages that arrived in one second are a millisecond apart, so
that they stay in their order whenever they leave the queue. A message that a content filter hands
back is the same one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from ratelimit_mail.cli.errors import RejectedRow
from ratelimit_mail.cli.readers.base import Item, Reading, Source, Start, numbered_lines, size_of
from ratelimit_mail.cli.readers.open_messages import TOO_LONG, OpenMessage, OpenMessages, item_of
from ratelimit_mail.cli.readers.syslog import (
    SyslogReader,
    by_first_time,
    is_remark,
    parse_line,
)

__all__ = ["PostfixReader"]

_QUEUE_ID: Final = re.compile(
    r"([0-9A-F]{6,21}|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,33}): (.*)", re.DOTALL
)
_SERVICES: Final = frozenset(
    [
        "smtpd",
        "pickup",
        "cleanup",
        "qmgr",
        "nqmgr",
        "smtp",
        "lmtp",
        "local",
        "virtual",
        "pipe",
        "error",
        "discard",
        "bounce",
        "relay",
        "retry",
        "trivial-rewrite",
        "postscreen",
        "anvil",
        "scache",
        "verify",
        "flush",
        "proxymap",
        "tlsmgr",
        "master",
        "postdrop",
        "postqueue",
        "postsuper",
        "sendmail",
        "dnsblog",
        "tlsproxy",
        "showq",
        "qmqpd",
        "spawn",
    ]
)
_CLIENT: Final = re.compile(r"[^ ,]*?\[([0-9A-Fa-f.:]++)\](?::[0-9]++)?(?:, |\Z)")
_SIZE: Final = re.compile(r">, size=([0-9]{1,12}), nrcpt=[0-9]{1,9} \([^()>]*+\)\Z")
"""The end of qmgr's line about a message; a sender's address cannot stand behind it."""
_LOGIN: Final = re.compile(r", sasl_username=([^,]++)")
_ORIGINAL_CLIENT: Final = re.compile(r", orig_client=[^ ,]*?\[([0-9A-Fa-f.:]++)\]")
_LOOPBACK: Final = ("127.", "::1")

REFUSED: Final = "attempts that the server refused are not replayed"
NOTICES: Final = "notices and forwarded copies that the server itself wrote are not replayed"
FILTERED: Final = "messages that a content filter handed back are counted once"
NOT_ACCEPTED: Final = "messages that began and were not accepted are not replayed"
NO_ARRIVAL: Final = (
    "its arrival is not in the log, which begins later; name the older file of the log too"
)


class PostfixReader:
    """The log of Postfix."""

    name = "postfix"
    is_log = True

    def recognizes(self, start: Start) -> bool:
        """Return whether one of the first lines is Postfix's."""
        for text in start.lines:
            line = parse_line(text)
            if line is not None and _service(line.program) and "postfix" in line.program:
                return True
        return False

    def read(self, sources: Iterable[Source], reading: Reading) -> Iterator[Item]:
        """Yield each message when it has left the queue, or at the end of the log."""
        files = by_first_time(list(sources))
        syslog = SyslogReader(files, reading)
        log = _Log(reading)
        for where, text in numbered_lines(files):
            line = parse_line(text)
            if line is None:
                if not is_remark(text):
                    yield RejectedRow(where, "is not a line of syslog or the journal")
                continue
            service = _service(line.program)
            if service is None:
                continue
            queued = _QUEUE_ID.match(line.text)
            if queued is None:
                if line.text.startswith("NOQUEUE: ") and "reject: " in line.text[:40]:
                    reading.notes[REFUSED] += 1
                continue
            try:
                time = syslog.time_of(line)
            except ValueError as error:
                yield RejectedRow(where, str(error))
                continue
            instance = line.program.partition("/")[0]
            key = f"{line.host} {instance} {queued[1]}"
            yield from log.add(key, where, time, service, queued[2])
        yield from log.end()


def _service(program: str) -> str | None:
    """Return the service of Postfix that writes under a name such as `postfix/submission/smtpd`."""
    prefix, _, service = program.rpartition("/")
    return service if prefix and service in _SERVICES else None


class _Log:
    """The messages of one log."""

    def __init__(self, reading: Reading) -> None:
        self._notes = reading.notes
        self._open = OpenMessages(self._finish)
        self._by_message_id: dict[str, str] = {}
        self._last_arrival = 0

    def add(self, key: str, where: str, time: int, service: str, text: str) -> Iterator[Item]:
        """Take a line of the message `key`; yield what is finished by it."""
        if service == "smtpd" and text.startswith("client="):
            message = _arrived(where, self._arrival(time), text[len("client=") :])
            yield from self._open.add(key, message)
            return
        if service == "pickup" and text.startswith("uid="):
            sender = _in_angles(text, "from=<")
            message = OpenMessage(where, self._arrival(time), sender, has_arrival=True)
            yield from self._open.add(key, message)
            return
        message_or_none = self._open.get(key)
        if message_or_none is None:
            if self._open.was_cut(key):
                return
            if service not in ("cleanup", "qmgr", "nqmgr") and not text.startswith("to=<"):
                return
            if text == "removed":
                return
            message_or_none = OpenMessage(where, time)
            if service == "cleanup" and text.startswith("message-id="):
                message_or_none.left_out = NOTICES
            yield from self._open.add(key, message_or_none)
        message = message_or_none
        if text == "removed":
            yield from self._open.close(key)
        elif text.startswith("from=<"):
            message.sender = _in_angles(text, "from=<")
            size = _SIZE.search(text)
            message.size = size_of(size[1]) if size else None
        elif text.startswith("to=<"):
            self._add_recipient(message, text)
        elif text.startswith("message-id="):
            self._set_message_id(key, message, text[len("message-id=") :])
        elif "reject: " in text[:20] and (
            service == "cleanup" or "DATA from" in text[:40] or "END-OF-MESSAGE from" in text[:50]
        ):
            message.left_out = REFUSED

    def _arrival(self, time: int) -> int:
        """Return the time of the next arrival, after that of the last one in the same second.

        A time that has more than seconds stays as it is.
        """
        if time % 1000 == 0 and time == self._last_arrival // 1000 * 1000:
            time = min(self._last_arrival + 1, time + 999)
        self._last_arrival = time
        return time

    def end(self) -> Iterator[Item]:
        """Yield what the log has of messages that are still in the queue."""
        return self._open.close_all()

    def _add_recipient(self, message: OpenMessage, text: str) -> None:
        recipient = _in_angles(text, "to=<")
        after = len("to=<") + len(recipient or "") + len(">, ")
        original = _in_angles(text[after:], "orig_to=<")
        if original is not None and "@" in original:
            recipient = original
        if recipient:
            self._open.add_recipient(message, recipient)

    def _set_message_id(self, key: str, message: OpenMessage, message_id: str) -> None:
        if not message_id or len(message_id) > 1000:
            return
        other = self._by_message_id.get(message_id)
        if other is not None and other != key and other in self._open:
            if message.may_be_copy:
                message.left_out = FILTERED
            return
        message.message_id = message_id
        self._by_message_id[message_id] = key

    def _finish(self, key: str, message: OpenMessage) -> Item | None:
        if self._by_message_id.get(message.message_id) == key:
            del self._by_message_id[message.message_id]
        if message.left_out:
            self._notes[message.left_out] += 1
            return None
        if not message.has_arrival:
            if message.sender is None and not message.recipients:
                return None
            return RejectedRow(message.where, NO_ARRIVAL)
        if message.sender is None or not message.recipients:
            if message.is_cut:
                return RejectedRow(message.where, TOO_LONG)
            self._notes[NOT_ACCEPTED] += 1
            return None
        return item_of(message)


def _arrived(where: str, time: int, text: str) -> OpenMessage:
    client = _CLIENT.match(text)
    login = _LOGIN.search(text)
    message = OpenMessage(
        where,
        time,
        address=client[1] if client else "",
        user=login[1] if login else "",
        protocol="smtp",
        has_arrival=True,
    )
    # A content filter runs on this host, or is configured to name the client that it has it from.
    original = _ORIGINAL_CLIENT.search(text)
    message.may_be_copy = original is not None or message.address.startswith(_LOOPBACK)
    if original:
        message.address = original[1]
    return message


def _in_angles(text: str, start: str) -> str | None:
    """Return what stands in angle brackets after `start`, which may be anywhere in the first 40."""
    at = text.find(start, 0, 40 + len(start))
    if at < 0:
        return None
    at += len(start)
    end = text.find(">, ", at)
    if end < 0:
        end = len(text) - 1 if text.endswith(">") else len(text)
    return text[at:end]
