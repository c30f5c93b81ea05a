"""Report: the results of a replay, and the same as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Any, Final

import attrs

from ratelimit_mail.cli.replay.by_tier import ByTier
from ratelimit_mail.cli.replay.heavy_senders import HeavySender
from ratelimit_mail.cli.replay.retry import Delays
from ratelimit_mail.cli.replay.suggest import Effect, Numbers, Suggestion
from ratelimit_mail.cli.replay.tally import DecisionCounts, Tally

__all__ = ["MOST_AFFECTED_SHOWN", "Report", "as_json", "share"]

MOST_AFFECTED_SHOWN: Final = 10


@attrs.frozen(kw_only=True)
class Report:
    """The results of one replay; times are in milliseconds since the epoch.

    name: the policy as named on the command line. policy: the policy's own name.
    out_of_order: how many messages came after a message with a later time.
    rejected_rows: how many rows could not be read. reasons: why most often, and how many.
    notes: what was left out on purpose or changed, in words.
    compared: the results of other policies on the same mail, by name.
    timezone: the time zone of the weekly rhythm.
    touch: the share of senders that a policy may affect, in percent.
    suggested: the numbers at which each limit would affect no more than that, if requested.
    heavy: the heavy senders of the mail, if numbers were requested.
    by_tier: the clients and senders of each tier, if the policy has tiers.
    delays: what became of the messages of each tier with retries, if requested.
    """

    file: str
    format: str
    policy: str
    name: str
    tally: Tally
    first: int
    last: int
    out_of_order: int
    rejected_rows: int
    reasons: Sequence[tuple[str, int]] = ()
    notes: Sequence[str] = ()
    compared: dict[str, Tally] = attrs.field(factory=dict)
    timezone: tzinfo = UTC
    touch: float = 0.2
    suggested: list[Suggestion] | None = None
    heavy: Sequence[HeavySender] = ()
    by_tier: ByTier | None = None
    delays: Mapping[str | None, Delays] | None = None

    @property
    def side_by_side(self) -> dict[str, Tally]:
        """The results of this policy and of those it is compared with, by name."""
        return {self.name: self.tally, **self.compared}

    @property
    def set_apart(self) -> list[HeavySender]:
        """The heavy senders without which numbers were suggested, too."""
        return [each for each in self.heavy if each.is_set_apart]


def share(part: int, whole: int) -> float:
    """Return `part` of `whole`, from 0 to 1."""
    return part / whole if whole else 0.0


def as_json(report: Report) -> dict[str, Any]:
    """Return the report for JSON, with times in Unix seconds. The keys are stable."""
    tally = report.tally
    result = {
        "file": report.file,
        "format": report.format,
        "policy": report.policy,
        "span": {
            "first": report.first / 1000,
            "last": report.last / 1000,
            "seconds": (report.last - report.first) / 1000,
        },
        "rows": {
            "messages": tally.all.messages,
            "broken": report.rejected_rows,
            "out_of_order": report.out_of_order,
            "sorted": report.out_of_order > 0,
        },
        "messages": _with_shares(tally.all, tally.kinds),
        "tiers": [
            {"tier": tier, **_with_shares(x, tally.kinds)} for tier, x in tally.by_tier.items()
        ],
        "limits": _refusals(tally.by_limit),
        "senders": _senders(tally),
        "most_affected": [
            {"sender": sender, "messages": x.messages, **x.of(tally.kinds)}
            for sender, x in tally.most_affected(MOST_AFFECTED_SHOWN)
        ],
    }
    if tally.by_rule:
        result["rules"] = [
            {"rule": rule, "rejected": x.rejected, "held": x.held}
            for rule, x in tally.by_rule.items()
        ]
    if tally.by_shadow:
        result["only_reported"] = _refusals(tally.by_shadow)
    if report.compared:
        result["compared"] = [
            {"policy": name, "messages": _with_shares(x.all, x.kinds), "senders": _senders(x)}
            for name, x in report.side_by_side.items()
        ]
    if report.suggested is not None:
        result["suggested"] = {
            "touch_percent": report.touch,
            "limits": [_suggestion(each, report) for each in report.suggested],
            "set_apart": len(report.set_apart),
            "heavy_senders": [_heavy_sender(each) for each in report.heavy],
        }
    return result


def _refusals(by_limit: dict[str, DecisionCounts]) -> list[dict[str, Any]]:
    return [
        {"limit": limit, "deferred": x.deferred, "rejected": x.rejected}
        for limit, x in by_limit.items()
    ]


def _senders(tally: Tally) -> dict[str, Any]:
    seen = len(tally.by_sender)
    return {"seen": seen, "affected": tally.affected, "share": share(tally.affected, seen)}


def _suggestion(each: Suggestion, report: Report) -> dict[str, Any]:
    senders = len(report.tally.by_sender)
    without = None
    if each.without is not None:
        rest = senders - len(report.set_apart)
        without = _numbers(each.without, rest, report)
    return {
        "limit": str(each.limit),
        "tier": each.tier,
        **_numbers(each.numbers, senders, report),
        "without": without,
        "remark": each.remark,
    }


def _numbers(numbers: Numbers, senders: int, report: Report) -> dict[str, Any]:
    """Return numbers that were found in the mail of so many senders."""
    below, effect = numbers.affected_below, numbers.exact_effect
    return {
        "suggested": None if effect is None else effect.text,
        "number": numbers.number,
        "affected": numbers.affected,
        "share": share(numbers.affected, senders),
        "one_less": None if below is None else {"affected": below, "share": share(below, senders)},
        "of_all_mail": _effect(effect, report),
        "rounded": _effect(numbers.rounded_effect, report),
    }


def _effect(effect: Effect | None, report: Report) -> dict[str, Any] | None:
    """Return what a number would have done to all mail, and to that of senders not set apart."""
    if effect is None:
        return None
    senders, messages = len(report.tally.by_sender), report.tally.all.messages
    rest = senders - len(report.set_apart)
    rest_messages = messages - sum(each.messages for each in report.set_apart)
    others, refused = effect.senders - effect.senders_apart, effect.messages - effect.messages_apart
    return {
        "number": effect.number,
        "suggested": effect.text,
        "senders": {"affected": effect.senders, "share": share(effect.senders, senders)},
        "messages": {"refused": effect.messages, "share": share(effect.messages, messages)},
        "not_set_apart": {
            "senders": {"affected": others, "share": share(others, rest)},
            "messages": {"refused": refused, "share": share(refused, rest_messages)},
        },
    }


def _heavy_sender(each: HeavySender) -> dict[str, Any]:
    return {
        "sender": each.sender,
        "looks_like": each.looks_like,
        "reason": each.reason,
        "set_apart": each.is_set_apart,
        "messages": each.messages,
        "recipients": {"minute": each.minute, "hour": each.hour, "day": each.day},
        "day": each.on.isoformat(),
        "external": each.external,
        "new": each.new,
    }


def _with_shares(counts: DecisionCounts, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Return each count with its share of all messages."""
    total = counts.messages
    numbers = counts.of(kinds).items()
    shares = {kind: {"messages": n, "share": share(n, total)} for kind, n in numbers}
    return {"total": total, **shares}
