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
        folder = files(__package__) / "lua"
        return cls(b"\n".join((folder / f"{name}.lua").read_bytes() for name in names))


APPLY: Final = Program.of("message", "log", "room", "change", "answer", "ruling", "apply")
FORGET: Final = Program.of("log", "change", "forget")
READ: Final = Program.of("message", "log", "room", "read")
REMEMBER: Final = Program.of("remember")
TAKE_OUT: Final = Program.of("log", "change", "answer", "take_out")
