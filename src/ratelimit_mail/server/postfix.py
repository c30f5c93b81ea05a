"""Postfix's policy delegation protocol without I/O: bytes in, requests and replies out.

A request is lines of `name=value`, ended by an empty line; a reply is `action=...` and an empty
line. `PolicyConnection` is one connection: `receive_data` takes bytes as they come, however they
are split, and `next_event` returns a `Request`, a `Malformed` or None for more bytes. The caller
answers each event by the bytes of `reply`, in order. A `Malformed` that `must_close` leaves the
connection out of step, so that its reply is the last one.

Nothing here grows with what the peer sends: a line, the attributes and the whole of a request are
bounded, and what is beyond them is malformed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Final

import attrs

from ratelimit_mail._util.text import show

__all__ = [
    "LONGEST_LINE",
    "LONGEST_REQUEST",
    "MOST_ATTRIBUTES",
    "QUEUE_ID",
    "Malformed",
    "PolicyConnection",
    "Request",
    "Stage",
    "reply",
]

LONGEST_LINE: Final = 8192
"""In bytes. Postfix takes command lines of 2,048 bytes, and certificates may have long names."""

LONGEST_REQUEST: Final = 32_768
"""In bytes; a request of Postfix 3.7 has about 700."""

MOST_ATTRIBUTES: Final = 100
"""Postfix 3.7 sends 29."""

MOST_RECIPIENTS: Final = 10**9

QUEUE_ID: Final = re.compile(
    "[0-9A-F]{5,21}"
    "|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,20}z[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-y]{1,12}"
)
"""A short queue id, or a long one of `enable_long_queue_ids`: without vowels, and with a z between
the time, in which there may be one too, and the number of the file."""

_INSTANCE: Final = re.compile(r"[0-9A-Za-z._:-]{1,128}")
_COUNT: Final = re.compile("[0-9]{1,9}")
_SIZE: Final = re.compile("[0-9]{1,12}")
_NOT_IN_REPLY: Final = re.compile(r"[^\x20-\x7e]")


class Stage(Enum):
    """When in an SMTP session Postfix asks; `other` is a stage in which nothing is counted."""

    RCPT = "rcpt"
    DATA = "data"
    END_OF_MESSAGE = "end-of-message"
    OTHER = "other"


_STAGES: Final = {
    "RCPT": Stage.RCPT,
    "DATA": Stage.DATA,
    "BDAT": Stage.DATA,
    "END-OF-MESSAGE": Stage.END_OF_MESSAGE,
    **dict.fromkeys(("CONNECT", "EHLO", "HELO", "MAIL", "VRFY", "ETRN"), Stage.OTHER),
}


@attrs.frozen
class Request:
    """A question of Postfix's.

    attributes: all of them, by their names; bytes that are not UTF-8 are surrogates.
    stage: when it asks. instance: the same for all requests about one message, and for no other.
    recipient_count: how many recipients Postfix accepted; 0 before DATA.
    size: of the message, in bytes: at END-OF-MESSAGE what Postfix received, and before it what the
        client announced in MAIL FROM; None if it is not known.
    """

    attributes: Mapping[str, str]
    stage: Stage
    instance: str
    recipient_count: int
    size: int | None = None

    @property
    def sender(self) -> str:
        """The address of MAIL FROM; empty for the null sender."""
        return self.attributes.get("sender", "")

    @property
    def recipient(self) -> str:
        """The address of RCPT TO; at DATA and later only if there is one recipient alone."""
        return self.attributes.get("recipient", "")

    @property
    def queue_id(self) -> str:
        """The id of the queue file; empty if it is not known yet, or is not an id of Postfix's."""
        text = self.attributes.get("queue_id", "")
        return text if QUEUE_ID.fullmatch(text) else ""


@attrs.frozen
class Malformed:
    """Bytes that are not a request of Postfix's; `must_close` if the next one cannot be found."""

    reason: str
    must_close: bool


class PolicyConnection:
    """One connection of a mail server: what has come of a request, and nothing else."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        """How many bytes of the buffer are known to have no line break."""
        self._attributes: dict[str, str] = {}
        self._size = 0
        self._is_closed = False

    @property
    def is_within_request(self) -> bool:
        """Whether a request has begun and is not complete."""
        return bool(self._buffer or self._attributes)

    @property
    def is_closed(self) -> bool:
        """Whether the connection is out of step: all that comes is discarded."""
        return self._is_closed

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes from the peer. Call `next_event` until it returns None."""
        if not self._is_closed:
            self._buffer += data

    def next_event(self) -> Request | Malformed | None:
        """Return the next request, or what is wrong with it; None if more bytes are needed."""
        while not self._is_closed:
            end = self._buffer.find(b"\n", self._searched)
            if end < 0:
                self._searched = len(self._buffer)
                if self._searched > LONGEST_LINE:
                    return self._out_of_step(f"a line has more than {LONGEST_LINE} bytes")
                return None
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            if not line:
                return self._complete()
            if (problem := self._add(line)) is not None:
                return self._out_of_step(problem)
        return None

    def _add(self, line: bytes) -> str | None:
        """Add the attribute in `line`; return what is wrong with it, if anything is."""
        if len(line) > LONGEST_LINE:
            return f"a line has more than {LONGEST_LINE} bytes"
        self._size += len(line) + 1
        if self._size > LONGEST_REQUEST:
            return f"a request has more than {LONGEST_REQUEST} bytes"
        if len(self._attributes) >= MOST_ATTRIBUTES:
            return f"a request has more than {MOST_ATTRIBUTES} attributes"
        if b"\0" in line:
            return "a line has a NUL byte"
        text = line.decode("utf-8", "surrogateescape")
        name, equals, value = text.partition("=")
        if not name or not equals:
            return f"the line {show(text)} is not name=value"
        if name in self._attributes:
            return f"the attribute {show(name)} is there twice"
        self._attributes[name] = value
        return None

    def _complete(self) -> Request | Malformed:
        attributes = self._attributes
        self._attributes = {}
        self._size = 0
        kind = attributes.get("request")
        if kind != "smtpd_access_policy":
            return Malformed(f"request={show(kind)} is not smtpd_access_policy", False)
        state = attributes.get("protocol_state", "")
        stage = _STAGES.get(state)
        if stage is None:
            return Malformed(f"protocol_state={show(state)} is not known", False)
        instance = attributes.get("instance", "")
        if not _INSTANCE.fullmatch(instance):
            return Malformed(f"instance={show(instance)} is not the name of a message", False)
        count = attributes.get("recipient_count", "0")
        if not _COUNT.fullmatch(count):
            return Malformed(f"recipient_count={show(count)} is not a number", False)
        size = attributes.get("size")
        if size is not None and not _SIZE.fullmatch(size):
            return Malformed(f"size={show(size)} is not a number", False)
        if size == "0" and stage is not Stage.END_OF_MESSAGE:  # the client has not announced it
            size = None
        if stage is Stage.RCPT and not attributes.get("recipient"):
            return Malformed("at RCPT there is no recipient", False)
        if stage in (Stage.DATA, Stage.END_OF_MESSAGE) and int(count) == 0:
            return Malformed(f"at {state} recipient_count is 0", False)
        length = None if size is None else int(size)
        return Request(attributes, stage, instance, int(count), length)

    def _out_of_step(self, reason: str) -> Malformed:
        self._is_closed = True
        self._buffer.clear()
        self._attributes = {}
        return Malformed(reason, True)


def reply(action: str) -> bytes:
    """Return the bytes that answer a request by `action`, such as `DUNNO`."""
    return b"action=" + _NOT_IN_REPLY.sub("?", action).encode("ascii") + b"\n\n"
