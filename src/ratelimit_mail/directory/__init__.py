"""Directories: who owns which alias, and which addresses are mailing lists."""

from __future__ import annotations

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
