"""The Lua scripts that run inside Redis, each with the digest by which it is called."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

import attrs

__all__ = [
    "APPLY",
    "APPLY_AT_NODE",
    "MOVE",
    "MULTI_SLOT_IDEMPOTENCY",
    "PLACES",
    "READ_REGISTER",
    "REDEEM",
    "REFUND",
    "RESET",
    "SETTLE",
    "TOP",
    "USAGE",
    "WRITE_REGISTER",
    "Script",
]


@attrs.frozen
class Script:
    """The text of a script and its SHA-1 digest, by which a server finds a loaded script."""

    text: bytes = attrs.field(repr=False)
    sha: str = attrs.field(init=False)

    @sha.default
    def _sha(self) -> str:
        return hashlib.sha1(self.text, usedforsecurity=False).hexdigest()

    @classmethod
    def from_files(cls, *names: str) -> Script:
        """Return the script that the files of these names make in this order."""
        return cls(_text(*names))


def _text(*names: str) -> bytes:
    folder = files(__package__) / "lua"
    return b"\n".join((folder / f"{name}.lua").read_bytes() for name in names)


def _loader(name: str, function: str, *names: str) -> bytes:
    """Return a Lua function that defines what is in these files, and returns `function` of it."""
    body = _text(*names)
    return b"local function %b()\n%b\nreturn %b\nend\n" % (name.encode(), body, function.encode())


_EVENT_LOG: Final = (
    "server",
    "rights",
    "fetch",
    "state",
    "shifts",
    "entry",
    "search",
    "full",
    "far_changes",
    "event_log",
    "unique",
)
_MUTATIONS: Final = ("compaction", "mutations")
_RECORDS: Final = ("reply", "records", "idempotency")

# The loaders are first, so that they capture no local of the files after them: each call of the
# script would pay for what they capture.
APPLY: Final = Script(
    _loader(
        "load_records",
        "{bookings_of = bookings_of, read_answer = read_answer, repeat_answer = repeat_answer,"
        " store_answer = store_answer}",
        "server",
        "rights",
        "fetch",
        "state",
        *_RECORDS,
    )
    + _loader(
        "load_decide",
        "decide, must_decide_all",
        "message",
        *_EVENT_LOG,
        "windows",
        "availability",
        *_MUTATIONS,
        "transaction",
        "reply",
        "decide",
    )
    + _loader(
        "load_add_full_windows",
        "add_full_windows",
        "message",
        "state",
        "entry",
        "search",
        "full_windows",
    ).replace(
        b"load_calendars()",  # an expression, which costs nothing until it is evaluated
        b"(function()\n%b\nreturn {read_window = read_window, leaves_at = leaves_at}\nend)()"
        % _text("windows"),
    )
    + _text("server", "message", "state", "entry", "apply")
)
APPLY_AT_NODE: Final = Script(_text("keys_in_arguments") + APPLY.text)
RESET: Final = Script.from_files(*_EVENT_LOG, *_MUTATIONS, "reset")
USAGE: Final = Script.from_files("message", *_EVENT_LOG, "windows", "availability", "usage")
TOP: Final = Script.from_files("message", *_EVENT_LOG, "windows", "availability", "top")
MULTI_SLOT_IDEMPOTENCY: Final = Script.from_files(
    "server", "rights", "fetch", "multi_slot_idempotency"
)
REFUND: Final = Script.from_files(*_EVENT_LOG, *_MUTATIONS, *_RECORDS, "refund")
SETTLE: Final = Script.from_files(
    "message",
    *_EVENT_LOG,
    "windows",
    *_MUTATIONS,
    "transaction",
    *_RECORDS,
    "moving",
    "settle",
)
REDEEM: Final = Script.from_files(
    "message",
    *_EVENT_LOG,
    "windows",
    "availability",
    *_MUTATIONS,
    "transaction",
    *_RECORDS,
    "moving",
    "redeem",
)
MOVE: Final = Script.from_files(
    "message",
    *_EVENT_LOG,
    "windows",
    "availability",
    *_MUTATIONS,
    "transaction",
    *_RECORDS,
    "moving",
    "move",
)
PLACES: Final = Script.from_files(*_EVENT_LOG, *_MUTATIONS, "records", "places")
READ_REGISTER: Final = Script.from_files("server", "fetch", "read_register")
WRITE_REGISTER: Final = Script.from_files("rights", "fetch", "write_register")
