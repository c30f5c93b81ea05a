"""DirectoryLike: all that a policy asks of a directory."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ratelimit_mail.directory.mailing_lists import MailingList

__all__ = ["DirectoryLike"]


@runtime_checkable
class DirectoryLike(Protocol):
    """Any object with these two methods: a live LDAP, say.

    Addresses come as `addresses.normal_address` writes them, and are given back so.
    """

    def owner(self, address: str) -> str:
        """The primary address that `address` is an alias of; `address` itself where it is none."""

    def mailing_list(self, address: str) -> MailingList | None:
        """The mailing list of that address; None where it is none."""
