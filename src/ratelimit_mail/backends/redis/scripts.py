"""The Lua scripts that decide inside Redis, each with the digest that it is called by."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

import attrs

__all__ = ["APPLY", "MULTI_SLOT_IDEMPOTENCY", "REFUND", "RESET", "USAGE", "Script"]


@attrs.frozen
class Script:
    """A script: its text, and its SHA-1, by which a server that knows it is told to run it."""

    text: bytes = attrs.field(repr=False)
    sha: str = attrs.field(init=False)

    @sha.default
    def _sha(self) -> str:
        return hashlib.sha1(self.text, usedforsecurity=False).hexdigest()

    @classmethod
    def of(cls, *names: str) -> Script:
        """The program that the files of these names make in this order."""
        return cls(_text(*names))


def _text(*names: str) -> bytes:
    folder = files(__package__) / "lua"
    return b"\n".join((folder / f"{name}.lua").read_bytes() for name in names)


def _function(name: str, returned: str, *files_of_it: str) -> bytes:
    """What makes and returns something of these files, when it is called."""
    body = _text(*files_of_it)
    return b"local function %b()\n%b\nreturn %b\nend\n" % (name.encode(), body, returned.encode())


_LOGS: Final = ("server", "fetch", "state", "entry", "search", "event_log")

# The functions stand first, so that they take nothing from around them: what they took would be
# paid for by each call.
APPLY: Final = Script(
    _function(
        "the_careful_one",
        "careful",
        "message",
        *_LOGS,
        "availability",
        "mutations",
        "idempotency",
        "decide",
    )
    + _function("the_search", "add_full", "message", "state", "entry", "search", "full_windows")
    + _text("server", "message", "state", "entry", "apply")
)
RESET: Final = Script.of(*_LOGS, "mutations", "reset")
USAGE: Final = Script.of("message", *_LOGS, "availability", "usage")
MULTI_SLOT_IDEMPOTENCY: Final = Script.of("server", "fetch", "multi_slot_idempotency")
REFUND: Final = Script.of(*_LOGS, "mutations", "idempotency", "refund")
