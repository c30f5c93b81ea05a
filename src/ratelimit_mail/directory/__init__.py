"""Directories: who owns which alias, and which addresses are mailing lists."""

from __future__ import annotations

from ratelimit_mail.directory.mailing_lists import MailingList
from ratelimit_mail.directory.memory import Directory
from ratelimit_mail.directory.protocol import DirectoryLike

__all__ = ["Directory", "DirectoryLike", "MailingList"]
