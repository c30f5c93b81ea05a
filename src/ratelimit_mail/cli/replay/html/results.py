"""Results: everything that the page of a replay shows."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from ratelimit_mail.cli.replay.demand import Demand
from ratelimit_mail.cli.replay.report import Report
from ratelimit_mail.cli.replay.retry import Delays
from ratelimit_mail.cli.replay.sender_delays import SenderDelays
from ratelimit_mail.cli.replay.timeline import Timeline
from ratelimit_mail.policy import Policy

__all__ = ["Results"]

DelaysByTier = Mapping[str | None, Delays]


@attrs.frozen(kw_only=True)
class Results:
    """The results of one replay.

    policies: the policy of the report and those it is compared with, by the names that they have
        on the command line.
    delays: for each of them, what became of the messages of each tier with retries.
    sender_delays: what became of the messages of each sender that did not go at once.
    """

    report: Report
    policies: Mapping[str, Policy]
    timeline: Timeline
    demand: Demand
    delays: Mapping[str, DelaysByTier]
    sender_delays: SenderDelays

    @property
    def policy(self) -> Policy:
        """The policy of the report."""
        return self.policies[self.report.name]

    def all_delays(self, name: str | None = None) -> Delays:
        """Return what became of the messages of all tiers, under the policy of this name."""
        return Delays.total(self.delays[name or self.report.name].values())
