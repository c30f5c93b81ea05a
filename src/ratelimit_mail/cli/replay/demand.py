"""How much mail would have met each limit if nothing had been refused: its peaks."""

from __future__ import annotations

from collections.abc import Iterator

from ratelimit_mail.addresses import DomainSet
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.cli.replay.policy_numbers import opened, own_limits
from ratelimit_mail.cli.replay.run import Tries
from ratelimit_mail.cli.replay.time_bins import Bins
from ratelimit_mail.decision import Rule
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limits import RecipientLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.policy.charges import ChargePlan
from ratelimit_mail.policy.directory_lookup import resolve
from ratelimit_mail.testing import ManualClock

__all__ = ["Demand"]


class Demand:
    """The most that stood in the window of each limit, of any one subject.

    Limits are told by their place in `own_limits`.
    peaks: for each limit, the most within each bin.
    by_sender: for each limit, the most at the time of a message of each sender.

    For a recipient limit it is the recipients of the largest message.
    """

    def __init__(self, policy: Policy, bins: Bins, tries: Tries) -> None:
        count = len(own_limits(policy))
        self.bins = bins
        self.peaks = [[0] * len(bins) for _ in range(count)]
        self.by_sender: list[dict[str, int]] = [{} for _ in range(count)]
        opened_, self._place = opened(policy)
        self._policy = opened_.at_node("replay") if policy.per_node else opened_
        self._internal = DomainSet(policy.internal_domains, with_local=True)
        self._clock = ManualClock(0)
        self._backend = MemoryBackend(self._clock)
        for time, envelope in tries:
            self._clock.set(time)
            self._measure(time, envelope)

    def _measure(self, time: int, envelope: Envelope) -> None:
        """Charge one message, and note what it then met."""
        plan = self._policy.plan(envelope, time)
        if isinstance(plan.never, Rule):
            return
        self._backend.apply(plan.charges)
        at = self.bins.find(time)
        sender = envelope.sender
        for place, amount in self._met(plan, envelope):
            if at is not None and amount > self.peaks[place][at]:
                self.peaks[place][at] = amount
            if amount > self.by_sender[place].get(sender, 0):
                self.by_sender[place][sender] = amount

    def _met(self, plan: ChargePlan, envelope: Envelope) -> Iterator[tuple[int, int]]:
        """Each limit that counts this message, and what it then held."""
        for ledger, subject, costs in plan.charges:
            readings = self._backend.usage(ledger, subject)
            for count, of_count in zip(ledger.counts, readings, strict=True):
                if costs[count.unit]:
                    for window, reading in enumerate(of_count):
                        limit = plan.effective_limits.limit_of(count, window)
                        yield self._place[limit.limit], reading.used
        for each in plan.effective_limits.limits:
            if isinstance(each, RecipientLimit):
                yield self._place[each.limit], self._recipients(each, envelope)

    def _recipients(self, limit: RecipientLimit, envelope: Envelope) -> int:
        if self._policy.directory is not None:
            envelope = resolve(self._policy.directory, envelope).envelope
        if limit.count == "all":
            return len(envelope.recipients)
        return sum(1 for domain in envelope.domains if not self._internal[domain])
