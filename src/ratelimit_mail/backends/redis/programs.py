"""The Lua scripts that decide inside Redis, each with the digest that it is called by."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

import attrs

__all__ = ["APPLY", "FORGET", "READ", "REMEMBER", "TAKE_OUT", "Program"]


@attrs.frozen
class Program:
    """A script: its text, and its SHA-1, by which a server that knows it is told to run it."""

    text: bytes = attrs.field(repr=False)
    sha: str = attrs.field(init=False)

    @sha.default
    def _sha(self) -> str:
        return hashlib.sha1(self.text, usedforsecurity=False).hexdigest()

    @classmethod
    def of(cls, *names: str) -> Program:
        """The program that the files of these names make in this order."""
        return cls(_text(*names))


def _text(*names: str) -> bytes:
    folder = files(__package__) / "lua"
    return b"\n".join((folder / f"{name}.lua").read_bytes() for name in names)


_LOGS: Final = ("server", "state", "log")
_CAREFUL: Final = _text("message", *_LOGS, "room", "change", "answer", "ruling")

APPLY: Final = Program(
    b"local function the_careful_one()\n%b\nreturn careful\nend\n" % _CAREFUL
    + _text("server", "message", "state", "apply")
)
FORGET: Final = Program.of(*_LOGS, "change", "forget")
READ: Final = Program.of("message", *_LOGS, "room", "read")
REMEMBER: Final = Program.of("server", "remember")
TAKE_OUT: Final = Program.of(*_LOGS, "change", "answer", "take_out")
