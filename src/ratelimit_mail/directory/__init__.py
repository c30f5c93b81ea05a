"""Directories: who owns which alias, and which addresses are mailing lists."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratelimit_mail.directory.list_file import ListFile
    from ratelimit_mail.directory.mailing_lists import MailingList
    from ratelimit_mail.directory.memory import Directory
    from ratelimit_mail.directory.pasted_text import PastedText, parse_addresses
    from ratelimit_mail.directory.protocol import DirectoryLike

__all__ = [
    "Directory",
    "DirectoryLike",
    "ListFile",
    "MailingList",
    "PastedText",
    "parse_addresses",
]

# Each name is loaded when it is first asked for: most policies have no directory.
_MODULE_OF = {
    "Directory": "memory",
    "DirectoryLike": "protocol",
    "ListFile": "list_file",
    "MailingList": "mailing_lists",
    "PastedText": "pasted_text",
    "parse_addresses": "pasted_text",
}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"ratelimit_mail.directory.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
