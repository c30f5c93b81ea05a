"""The tables of a policy file: the keys of each, and the words for the kinds of limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from ratelimit_mail.directory import MailingList
from ratelimit_mail.limits import (
    ByteRateLimit,
    MessageRateLimit,
    MessageSizeLimit,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.overrides import Exemption, Grant, Override
from ratelimit_mail.policy.tiers import Tier

__all__ = ["EVERY_KEY", "KINDS", "DirectoryTable", "fields_of", "keys_of"]

KINDS: Final[Mapping[str, type[Any]]] = {
    "recipient limit": RecipientLimit,
    "message rate limit": MessageRateLimit,
    "recipient rate limit": RecipientRateLimit,
    "message size limit": MessageSizeLimit,
    "byte rate limit": ByteRateLimit,
}
"""Each kind of limit by the value of its key `kind`."""


@attrs.frozen(kw_only=True)
class DirectoryTable:
    """The table of a directory.

    aliases: the aliases by owner.
    lists: the mailing lists.
    aliases_csv, lists_csv: CSV files with them, relative to the folder of the policy file.
    lists_file: a file with more lists, which a running limiter reads again when it changes.
    """

    aliases: Mapping[str, Sequence[str]] = attrs.field(factory=dict)
    lists: Sequence[MailingList] = ()
    aliases_csv: str | None = None
    lists_csv: str | None = None
    lists_file: str | None = None


def fields_of(kind: type[Any]) -> list[attrs.Attribute[Any]]:
    """Return the fields of a class that a table may have.

    They have no types: the classes check the values themselves, with better error messages.
    """
    return [field.evolve(type=Any) for field in attrs.fields(kind) if field.init]


def keys_of(kind: type[Any]) -> tuple[str, ...]:
    """Return the keys that the table of a class may have."""
    names = tuple(field.name for field in attrs.fields(kind) if field.init)
    return ("kind", *names) if kind in KINDS.values() else names


EVERY_KEY: Final = frozenset(
    key
    for kind in (*KINDS.values(), Tier, Override, Exemption, Grant, DirectoryTable, MailingList)
    for key in keys_of(kind)
) | {
    "tiers",
    "internal_domains",
    "case_sensitive",
    "subaddress",
    "ipv4_prefix",
    "ipv6_prefix",
    "overrides",
    "override_requires",
    "exemptions",
    "grants",
    "directory",
}
