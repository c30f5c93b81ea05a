"""ResolvedEnvelope: a message after its addresses were looked up in a directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratelimit_mail.envelope import Envelope

if TYPE_CHECKING:
    from ratelimit_mail.rules import Rule

__all__ = ["ResolvedEnvelope"]


class ResolvedEnvelope(NamedTuple):
    """An envelope after its addresses were looked up in a directory.

    envelope: the same envelope with each alias replaced by its owner's address.
    exempt: the mailing lists among its recipients whose traffic no rate limit counts, by the keys
        of their addresses.
    rule: the rule of a list that refuses or holds the message; one that refuses takes precedence.
    """

    envelope: Envelope
    exempt: frozenset[str]
    rule: Rule | None
