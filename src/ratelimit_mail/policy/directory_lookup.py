"""Look up the addresses of a message in a directory: owners of aliases, rules of mailing lists."""

from __future__ import annotations

from typing import Final

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import NULL_SENDER, normal_address
from ratelimit_mail.directory import Directory, DirectoryLike, ListFile, MailingList
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.policy.resolved_envelope import ResolvedEnvelope
from ratelimit_mail.rules import Rule, held_by, refused_by
from ratelimit_mail.scopes import Comparison

__all__ = ["APPROVED", "DirectoryLookup"]

APPROVED: Final = "approved"
"""The tag of a client whose message a moderator has approved: no mailing list holds it."""


class DirectoryLookup:
    """Looks addresses up in a directory, however they are spelled.

    An address is looked up as `comparison` compares it: first with its subaddress, because that may
    be an alias or a list itself, then without.

    Raises ValueError if two entries of a `Directory` are the same for `comparison`.
    """

    def __init__(self, directory: DirectoryLike, comparison: Comparison) -> None:
        self._directory = directory
        self._comparison = comparison
        self._owner = directory.owner
        self._mailing_list = directory.mailing_list
        if isinstance(directory, Directory | ListFile):
            if comparison.case_sensitive:
                self._owner = directory.owner_as_written
                self._mailing_list = directory.mailing_list_as_written
            else:
                directory.check_spellings()

    def owner(self, address: str) -> str:
        """Return the owner of an address, which may be the address itself."""
        if address == NULL_SENDER:
            return address
        for key in self._keys(address):
            owner = self._owner(key)
            if owner == key:
                continue
            try:
                return normal_address(owner)[0]
            except (TypeError, ValueError) as error:
                raise type(error)(f"directory: the owner of {show(address)}: {error}") from None
        return address

    def mailing_list(self, address: str) -> MailingList | None:
        """Return the mailing list at an address; None if there is none."""
        for key in self._keys(address):
            mailing_list = self._mailing_list(key)
            if mailing_list is None:
                continue
            if not isinstance(mailing_list, MailingList):
                raise TypeError(
                    f"directory: for {show(address)} a MailingList or None is needed,"
                    f" not {show(mailing_list)}"
                )
            return mailing_list
        return None

    def resolve(self, envelope: Envelope) -> ResolvedEnvelope:
        """Return `envelope` after its addresses were looked up."""
        sender = self.owner(envelope.sender)
        exempt = set()
        rule: Rule | None = None
        recipients = []
        for recipient in map(self.owner, envelope.recipients):
            recipients.append(recipient)
            mailing_list = self.mailing_list(recipient)
            if mailing_list is None:
                continue
            if mailing_list.exempt:
                exempt.add(self._comparison.address(recipient))
            posting = mailing_list.posting_by(envelope.sender, sender, comparison=self._comparison)
            if posting == "refused" and (rule is None or rule.action == "hold"):
                rule = refused_by(recipient)
            elif posting == "held" and rule is None and APPROVED not in envelope.client.tags:
                rule = held_by(recipient)
        if sender != envelope.sender or tuple(recipients) != envelope.recipients:
            envelope = attrs.evolve(envelope, sender=sender, recipients=recipients)
        return ResolvedEnvelope(envelope, frozenset(exempt), rule)

    def holding_lists(self, envelope: Envelope) -> tuple[str, ...]:
        """Return the addresses of the lists whose moderators must approve a message."""
        if APPROVED in envelope.client.tags:
            return ()
        sender = self.owner(envelope.sender)
        holding = []
        for recipient in dict.fromkeys(map(self.owner, envelope.recipients)):
            mailing_list = self.mailing_list(recipient)
            if mailing_list is None:
                continue
            posting = mailing_list.posting_by(envelope.sender, sender, comparison=self._comparison)
            if posting == "held":
                holding.append(mailing_list.address)
        return tuple(dict.fromkeys(holding))

    def _keys(self, address: str) -> tuple[str, ...]:
        """Return the spellings of an address under which it may be in the directory."""
        spelling = self._comparison.spelling(address)
        key = self._comparison.address(address)
        return (spelling,) if key == spelling else (spelling, key)
