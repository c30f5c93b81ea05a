"""Look up the addresses of a message in a directory: owners of aliases, rules of mailing lists."""

from __future__ import annotations

from functools import partial
from typing import Final, NamedTuple

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import NULL_SENDER, normal_address
from ratelimit_mail.decision import Rule, held_by, refused_by
from ratelimit_mail.directory import DirectoryLike, MailingList
from ratelimit_mail.envelope import Envelope

__all__ = ["APPROVED", "ResolvedEnvelope", "owner_of", "resolve"]

APPROVED: Final = "approved"
"""The tag of a client whose message a moderator has approved: no mailing list holds it."""


class ResolvedEnvelope(NamedTuple):
    """An envelope after its addresses were looked up in a directory.

    envelope: the same envelope with each alias replaced by its owner's address.
    exempt: the mailing lists among its recipients whose traffic no rate limit counts.
    rule: the rule of a list that refuses or holds the message; one that refuses takes precedence.
    """

    envelope: Envelope
    exempt: frozenset[str]
    rule: Rule | None


def owner_of(directory: DirectoryLike, address: str) -> str:
    """Return the owner of an address, which may be the address itself."""
    if address == NULL_SENDER:
        return address
    owner = directory.owner(address)
    if owner == address:
        return address
    try:
        return normal_address(owner)[0]
    except (TypeError, ValueError) as error:
        raise type(error)(f"directory: the owner of {show(address)}: {error}") from None


def list_at(directory: DirectoryLike, address: str) -> MailingList | None:
    """Return the mailing list at an address; None if there is none."""
    mailing_list = directory.mailing_list(address)
    if mailing_list is not None and not isinstance(mailing_list, MailingList):
        raise TypeError(
            f"directory: for {show(address)} a MailingList or None is needed,"
            f" not {show(mailing_list)}"
        )
    return mailing_list


def resolve(directory: DirectoryLike, envelope: Envelope) -> ResolvedEnvelope:
    """Return `envelope` after its addresses were looked up in `directory`."""
    sender = owner_of(directory, envelope.sender)
    exempt = set()
    rule: Rule | None = None
    recipients = []
    for recipient in map(partial(owner_of, directory), envelope.recipients):
        recipients.append(recipient)
        mailing_list = list_at(directory, recipient)
        if mailing_list is None:
            continue
        if mailing_list.exempt:
            exempt.add(recipient)
        posting = mailing_list.posting_by(envelope.sender, sender)
        if posting == "refused" and (rule is None or rule.action == "hold"):
            rule = refused_by(recipient)
        elif posting == "held" and rule is None and APPROVED not in envelope.client.tags:
            rule = held_by(recipient)
    if sender != envelope.sender or tuple(recipients) != envelope.recipients:
        envelope = attrs.evolve(envelope, sender=sender, recipients=recipients)
    return ResolvedEnvelope(envelope, frozenset(exempt), rule)
