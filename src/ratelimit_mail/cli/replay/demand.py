"""Demand: the peak usage of each limit if no message had been refused."""

from __future__ import annotations

from collections.abc import Iterator

from ratelimit_mail.addresses import DomainSet
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.cli.replay.by_tier import sender_keys
from ratelimit_mail.cli.replay.policy_variants import own_limits, unlimited
from ratelimit_mail.cli.replay.run import TimedEnvelopes
from ratelimit_mail.cli.replay.time_bins import Bins
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limits import MessageSizeLimit, RateLimit, RecipientLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.policy.charges import ChargePlan
from ratelimit_mail.rules import Rule
from ratelimit_mail.testing import ManualClock

__all__ = ["Demand"]


class Demand:
    """The highest usage of any one subject in the window of each limit.

    Limits are identified by their index in `own_limits`. For a recipient limit, the usage is the
    number of recipients of the largest message, and for a message size limit its bytes.

    peaks: for each limit, the highest usage within each bin.
    by_sender: for each limit, the highest usage at the time of a message of each sender.
    counts_senders: for each limit, whether each sender has a count of its own, so that a number
        affects exactly the senders whose highest usage is above it.
    """

    def __init__(self, policy: Policy, bins: Bins, envelopes: TimedEnvelopes) -> None:
        limits = [limit for _, limit in own_limits(policy)]
        count = len(limits)
        self.bins = bins
        self.peaks = [[0] * len(bins) for _ in range(count)]
        self.by_sender: list[dict[str, int]] = [{} for _ in range(count)]
        self.counts_senders = [
            not isinstance(limit, RateLimit) or limit.on_oversize != "spread" for limit in limits
        ]
        variant, self._index = unlimited(policy)
        self._policy = variant.at_node("replay") if policy.per_node else variant
        self._keys = sender_keys(policy)
        self._internal = DomainSet(policy.internal_domains)
        self._clock = ManualClock(0)
        self._backend = MemoryBackend(self._clock)
        for time, envelope in envelopes:
            self._clock.set(time)
            self._measure(time, envelope)

    def _measure(self, time: int, envelope: Envelope) -> None:
        """Charge one message, and update the peaks of the limits that it is subject to."""
        plan = self._policy.plan(envelope, time)
        if isinstance(plan.never, Rule):
            return
        self._backend.apply(plan.charges)
        time_bin = self.bins.find(time)
        sender = self._keys[envelope.sender]
        for index, used in self._usage(plan, envelope, sender):
            if time_bin is not None and used > self.peaks[index][time_bin]:
                self.peaks[index][time_bin] = used
            if used > self.by_sender[index].get(sender, 0):
                self.by_sender[index][sender] = used

    def _usage(
        self, plan: ChargePlan, envelope: Envelope, sender: str
    ) -> Iterator[tuple[int, int]]:
        """Yield the index and the usage of each limit that the message is subject to."""
        for ledger, subject, costs in plan.charges:
            is_own = subject in (sender, f"sender:{sender}")
            readings = self._backend.usage(ledger, subject)
            for count, of_count in zip(ledger.counts, readings, strict=True):
                if costs[count.unit]:
                    for window, reading in enumerate(of_count):
                        limit = plan.effective_limits.limit_of(count, window)
                        index = self._index[limit.limit]
                        if not is_own:
                            self.counts_senders[index] = False
                        yield index, reading.used
        for each in plan.effective_limits.limits:
            if isinstance(each, RecipientLimit):
                yield self._index[each.limit], self._recipients(each, envelope)
            elif isinstance(each, MessageSizeLimit):
                yield self._index[each.limit], envelope.size or 0

    def _recipients(self, limit: RecipientLimit, envelope: Envelope) -> int:
        domains = self._policy.comparison.domains(self._policy.resolved(envelope).envelope)
        if limit.count == "all":
            return len(domains)
        return sum(1 for domain in domains if not self._internal[domain])
