"""Which recipients a message is charged for. Theory of operation:

Recipients come one by one at RCPT, and are collected by the message's `instance`. The message is
charged once, for all of them together, at the stage that `Stages.charge_at` names. There, Postfix
says how many recipients it accepted (`recipient_count`), each accepted RCPT counted, but names one
only if it is alone. So the recipients are:

1. The one that is named, if one alone was accepted.
2. Those that were collected, if there are no more than were accepted. A recipient that was named
   twice, or in two spellings, is one.
3. If there are more, rules behind this service have refused some. The message is charged for as
   many as were accepted, external ones first: never too little, and too much only if an internal
   one was accepted in place of an external one. Where the charge depends on which recipients they
   are (a directory, a limit per recipient or one on unique recipients), it is charged for all that
   were collected.
4. If fewer requests came than recipients were accepted, some are not known. If the server was
   started in the middle of the transaction, or a bound was reached, the message is deferred.
   Otherwise Postfix did not ask. It never asks about `postmaster` without a domain, which is
   internal; what else it does not ask about, because of its configuration, is charged as external.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ratelimit_mail._util.rare_warnings import RareWarnings
from ratelimit_mail.addresses import DomainSet
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.scopes import is_per_recipient
from ratelimit_mail.server.collector import Collector, Transaction
from ratelimit_mail.server.postfix import Request, Stage
from ratelimit_mail.server.stages import Stages

__all__ = ["RecipientsToCharge"]

POSTMASTER: Final = "postmaster"
"""What Postfix accepts without asking: RFC 5321 (4.5.1) demands that it is accepted."""

LONGEST_TRANSACTION: Final = 86_400.0
"""Seconds."""

UNKNOWN_DOMAIN: Final = "recipient.unknown.invalid"
"""The domain of recipients of which Postfix says only that they exist (RFC 6761)."""

MOST_UNKNOWN: Final = 100_000


class RecipientsToCharge:
    """Finds the recipients of a message at the stage that charges it.

    wall_clock: seconds since the epoch.
    """

    def __init__(
        self,
        policy: Policy,
        stages: Stages,
        collector: Collector,
        warnings: RareWarnings,
        wall_clock: Callable[[], float],
    ) -> None:
        self._stages = stages
        self._collector = collector
        self._warnings = warnings
        self._wall_clock = wall_clock
        self._started = wall_clock()
        self._lost_until: float | None = None
        """Until when transactions were forgotten because there were too many."""
        self._bypassed = False
        self.use(policy)

    def use(self, policy: Policy) -> None:
        """Charge by another policy from now on."""
        self._policy = policy
        self._internal = DomainSet(policy.internal_domains, with_local=True)
        own = [*policy.limits, *(limit for tier in policy.tiers for limit in tier.limits)]
        self._depends_on_recipients = policy.directory is not None or any(
            isinstance(limit, RateLimit)
            and (limit.direction == "inbound" or limit.is_unique or is_per_recipient(limit.scope))
            for limit in own
        )

    def note_dropped(self) -> None:
        """Note that the collector has forgotten transactions because too many were open."""
        if self._collector.dropped:
            self._warnings.warn(
                "dropped",
                "%d transactions were forgotten because too many were open; they are deferred",
                self._collector.dropped,
            )
            self._collector.dropped = 0
            self._lost_until = self._wall_clock()

    def of(self, request: Request) -> list[str] | None:
        """Return the recipients to charge; None if the message must come again."""
        if request.stage is Stage.RCPT:
            return [request.recipient]
        number, instance = request.recipient_count, request.instance
        is_asked = Stage.RCPT in self._stages
        transaction = self._collector.find(instance) if is_asked else None
        if number == 1 and request.recipient:
            if is_asked and transaction is None and request.recipient.lower() != POSTMASTER:
                self._note_unseen(instance)
            return [request.recipient]
        if is_asked and (transaction is None or transaction.requests < number):
            if self._may_be_lost(instance):
                return None
            return self._with_unseen(transaction, number, instance)
        if transaction is None:
            return self._unknown(number, instance)
        if transaction.is_overfull:
            return None
        collected = list(transaction.recipients)
        if len(collected) <= number or self._depends_on_recipients:
            return collected
        return self._costliest(collected, number)

    def _may_be_lost(self, instance: str) -> bool:
        """Return whether a message may have begun before this server did, or was forgotten."""
        begun = _begun(instance)
        if begun is None:
            return self._wall_clock() - self._started < self._stages.give_back_after
        if self._collector.dropped or (self._lost_until is not None and begun <= self._lost_until):
            return True
        return self._started - LONGEST_TRANSACTION < begun < self._started

    def _with_unseen(
        self, transaction: Transaction | None, number: int, instance: str
    ) -> list[str] | None:
        """Return the recipients of a message of which some were not asked about at RCPT.

        Postfix asks about all but `postmaster` without a domain, unless a rule before this service
        permits some of them. One of them is taken for `postmaster`, until it is known that there is
        such a rule, and the others for external recipients.
        """
        unseen = number - (0 if transaction is None else transaction.requests)
        if transaction is None or unseen > 1:
            self._note_unseen(instance)
        unknown = self._unknown(unseen, instance)
        if transaction is None or unknown is None:
            return unknown
        if not self._bypassed:
            unknown[0] = POSTMASTER
        return [*transaction.recipients, *unknown]

    def _unknown(self, number: int, instance: str) -> list[str] | None:
        """Return as many external recipients, the same for the same message."""
        if number > MOST_UNKNOWN:
            return None
        return [f"{instance}-{i}@{UNKNOWN_DOMAIN}" for i in range(number)]

    def _note_unseen(self, instance: str) -> None:
        """Note that Postfix accepted recipients without asking, and say so."""
        if self._may_be_lost(instance):
            return
        self._bypassed = True
        self._warnings.warn(
            "unseen",
            "Postfix accepts recipients without asking at RCPT, and they are counted as external"
            " ones: a rule before check_policy_service permits them, or it is missing in"
            " smtpd_recipient_restrictions",
        )

    def _costliest(self, collected: list[str], number: int) -> list[str]:
        """Return as many of the recipients as were accepted, those that cost most first."""
        policy = self._policy
        envelope = Envelope.from_smtp("", collected)
        by_key: dict[str, tuple[str, str]] = {}
        for address, domain in zip(envelope.recipients, envelope.domains, strict=True):
            by_key.setdefault(policy.comparison.address(address), (address, domain))
        each = sorted(by_key.values(), key=lambda pair: self._internal[pair[1]])
        return [address for address, _ in each[:number]]


def _begun(instance: str) -> float | None:
    """Return when a transaction began, in seconds since the epoch, if the instance says it.

    Postfix writes its process id, seconds, microseconds and a number, in hexadecimal digits.
    """
    words = instance.split(".")
    try:
        return int(words[1], 16) + int(words[2], 16) / 1_000_000
    except (IndexError, ValueError):
        return None
