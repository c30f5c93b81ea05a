"""Directories: who owns which alias, and which addresses are mailing lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratelimit_mail._util.lazy_names import lazy_names

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
__getattr__ = lazy_names(
    __name__,
    {
        "Directory": "memory",
        "DirectoryLike": "protocol",
        "ListFile": "list_file",
        "MailingList": "mailing_lists",
        "PastedText": "pasted_text",
        "parse_addresses": "pasted_text",
    },
)
