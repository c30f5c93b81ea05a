"""What a directory says of a message: whose addresses these are, and whether a list takes it."""

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
"""The tag of a client that has a moderator's word for the message: no list holds it."""


class ResolvedEnvelope(NamedTuple):
    """A message as the directory knows its people.

    envelope: the same with every alias replaced by its owner's address.
    free: the lists among its recipients whose traffic no rate limit counts.
    rule: of a list that refuses the message or holds it; what refuses comes first.
    """

    envelope: Envelope
    free: frozenset[str]
    rule: Rule | None


def owner_of(directory: DirectoryLike, address: str) -> str:
    """The owner of an address, who may be the address itself."""
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
    """The mailing list of an address, if there is one."""
    found = directory.mailing_list(address)
    if found is not None and not isinstance(found, MailingList):
        raise TypeError(
            f"directory: for {show(address)} a MailingList or None is needed, not {show(found)}"
        )
    return found


def resolve(directory: DirectoryLike, envelope: Envelope) -> ResolvedEnvelope:
    """`envelope` as `directory` knows its people."""
    sender = owner_of(directory, envelope.sender)
    free = set()
    rule: Rule | None = None
    recipients = []
    for recipient in map(partial(owner_of, directory), envelope.recipients):
        recipients.append(recipient)
        mailing_list = list_at(directory, recipient)
        if mailing_list is None:
            continue
        if mailing_list.exempt:
            free.add(recipient)
        posting = mailing_list.posting_by(envelope.sender, sender)
        if posting == "refused" and (rule is None or rule.action == "hold"):
            rule = refused_by(recipient)
        elif posting == "held" and rule is None and APPROVED not in envelope.client.tags:
            rule = held_by(recipient)
    if sender != envelope.sender or tuple(recipients) != envelope.recipients:
        envelope = attrs.evolve(envelope, sender=sender, recipients=recipients)
    return ResolvedEnvelope(envelope, frozenset(free), rule)
