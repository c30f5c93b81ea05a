"""All that a replay has to say, for people and for machines alike."""

from __future__ import annotations

from typing import Any

import attrs

from ratelimit_mail.cli.replay.suggest import Suggestion
from ratelimit_mail.cli.replay.tally import Counts, Tally

__all__ = ["MOST_TOUCHED", "Report", "as_json", "share"]

MOST_TOUCHED = 10


@attrs.frozen(kw_only=True)
class Report:
    """The outcome of one replay; times are in milliseconds since the epoch.

    given: the policy as the command line named it. compared: other policies on the same mail, by
    such names. touch: the share of senders that a policy may touch, in percent. suggested: where
    each limit would touch no more than that; None where nobody asked.
    """

    file: str
    format: str
    policy: str
    given: str
    tally: Tally
    first: int
    last: int
    out_of_order: int
    broken: int
    compared: dict[str, Tally] = attrs.field(factory=dict)
    touch: float = 0.2
    suggested: list[Suggestion] | None = None

    @property
    def side_by_side(self) -> dict[str, Tally]:
        """This policy and those it is compared with."""
        return {self.given: self.tally, **self.compared}


def share(part: int, whole: int) -> float:
    """`part` of `whole`, from 0 to 1."""
    return part / whole if whole else 0.0


def as_json(report: Report) -> dict[str, Any]:
    """The report as one object of plain values, times in Unix seconds; its keys stay."""
    tally = report.tally
    found = {
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
            "broken": report.broken,
            "out_of_order": report.out_of_order,
            "sorted": report.out_of_order > 0,
        },
        "messages": _with_shares(tally.all, tally.kinds),
        "tiers": [
            {"tier": tier, **_with_shares(x, tally.kinds)} for tier, x in tally.by_tier.items()
        ],
        "limits": _refusals(tally.by_limit),
        "senders": _senders(tally),
        "most_touched": [
            {"sender": sender, "messages": x.messages, **x.of(tally.kinds)}
            for sender, x in tally.most_touched(MOST_TOUCHED)
        ],
    }
    if tally.by_rule:
        found["rules"] = [
            {"rule": rule, "rejected": x.rejected, "held": x.held}
            for rule, x in tally.by_rule.items()
        ]
    if tally.by_shadow:
        found["only_reported"] = _refusals(tally.by_shadow)
    if report.compared:
        found["compared"] = [
            {"policy": name, "messages": _with_shares(x.all, x.kinds), "senders": _senders(x)}
            for name, x in report.side_by_side.items()
        ]
    if report.suggested is not None:
        found["suggested"] = {
            "touch_percent": report.touch,
            "limits": [_suggestion(each, len(tally.by_sender)) for each in report.suggested],
        }
    return found


def _refusals(by_limit: dict[str, Counts]) -> list[dict[str, Any]]:
    return [
        {"limit": limit, "deferred": x.deferred, "rejected": x.rejected}
        for limit, x in by_limit.items()
    ]


def _senders(tally: Tally) -> dict[str, Any]:
    seen = len(tally.by_sender)
    return {"seen": seen, "touched": tally.touched, "share": share(tally.touched, seen)}


def _suggestion(each: Suggestion, senders: int) -> dict[str, Any]:
    below = each.below
    return {
        "limit": str(each.limit),
        "tier": each.tier,
        "suggested": each.text,
        "number": each.number,
        "touched": each.touched,
        "share": share(each.touched, senders),
        "one_less": None if below is None else {"touched": below, "share": share(below, senders)},
    }


def _with_shares(counts: Counts, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Each count and its share of all messages of the same kind."""
    whole = counts.messages
    parts = counts.of(kinds).items()
    shares = {name: {"messages": part, "share": share(part, whole)} for name, part in parts}
    return {"total": whole, **shares}
