"""What a directory says of a message: whose addresses these are, and whether a list takes it."""

from __future__ import annotations

from typing import Final, NamedTuple

from ratelimit_mail.addresses import NULL_SENDER
from ratelimit_mail.directory import DirectoryLike
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.rules import Rule, held_by, refused_by
from ratelimit_mail.showing import show

__all__ = ["APPROVED", "Resolved", "owner_of", "resolved"]

APPROVED: Final = "approved"
"""The tag of a client that has a moderator's word for the message: no list holds it."""


class Resolved(NamedTuple):
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
    if not isinstance(owner, str):
        raise TypeError(f"directory: the owner of {show(address)} is an address, not {show(owner)}")
    return owner


def resolved(directory: DirectoryLike, envelope: Envelope) -> Resolved:
    """`envelope` as `directory` knows its people."""
    sender = owner_of(directory, envelope.sender)
    free = set()
    rule: Rule | None = None
    recipients = []
    for recipient in envelope.recipients:
        mailing_list = directory.mailing_list(recipient)
        if mailing_list is None:
            recipients.append(owner_of(directory, recipient))
            continue
        recipients.append(recipient)
        if mailing_list.exempt:
            free.add(recipient)
        posting = mailing_list.posting_by(envelope.sender, sender)
        if posting == "refused" and (rule is None or rule.action == "hold"):
            rule = refused_by(recipient)
        elif posting == "held" and rule is None and APPROVED not in envelope.client.tags:
            rule = held_by(recipient)
    if sender != envelope.sender or tuple(recipients) != envelope.recipients:
        envelope = _with_people(envelope, sender, recipients)
    return Resolved(envelope, frozenset(free), rule)


def _with_people(envelope: Envelope, sender: str, recipients: list[str]) -> Envelope:
    try:
        return Envelope(
            sender, recipients, envelope.client, id=envelope.id, direction=envelope.direction
        )
    except ValueError as error:
        raise ValueError(f"directory: what it gives is no address: {error}") from None
