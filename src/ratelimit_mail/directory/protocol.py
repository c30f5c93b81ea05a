"""DirectoryLike: the two methods that a policy calls on a directory."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ratelimit_mail.directory.mailing_lists import MailingList

__all__ = ["DirectoryLike"]


@runtime_checkable
class DirectoryLike(Protocol):
    """Any object with these two methods, such as an adapter to LDAP.

    Both take addresses as `addresses.normal_address` writes them, and `owner` returns one so. A
    policy asks for them as it compares them: in lower case, or as written if it is case-sensitive.
    If it has subaddresses, it asks first with the subaddress, then without.
    """

    def owner(self, address: str) -> str:
        """Return the primary address of the alias `address`; `address` if it is not an alias."""
        ...

    def mailing_list(self, address: str) -> MailingList | None:
        """Return the mailing list at `address`; None if there is none."""
        ...
