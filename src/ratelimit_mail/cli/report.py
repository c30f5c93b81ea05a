"""All that a replay has to say, for people and for machines alike."""

from __future__ import annotations

from typing import Any

import attrs

from ratelimit_mail.cli.tally import Counts, Tally

__all__ = ["MOST_TOUCHED", "Report", "as_json", "share"]

MOST_TOUCHED = 10


@attrs.frozen(kw_only=True)
class Report:
    """The outcome of one replay; times are in milliseconds since the epoch."""

    file: str
    format: str
    policy: str
    tally: Tally
    first: int
    last: int
    out_of_order: int
    broken: int


def share(part: int, whole: int) -> float:
    """`part` of `whole`, from 0 to 1."""
    return part / whole if whole else 0.0


def as_json(report: Report) -> dict[str, Any]:
    """The report as one object of plain values, times in Unix seconds; its keys stay."""
    tally = report.tally
    seen = len(tally.by_sender)
    return {
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
        "messages": _with_shares(tally.all),
        "tiers": [{"tier": tier, **_with_shares(x)} for tier, x in tally.by_tier.items()],
        "limits": [
            {"limit": limit, "deferred": x.deferred, "rejected": x.rejected}
            for limit, x in tally.by_limit.items()
        ],
        "senders": {"seen": seen, "touched": tally.touched, "share": share(tally.touched, seen)},
        "most_touched": [
            {"sender": sender, "messages": x.messages, **attrs.asdict(x)}
            for sender, x in tally.most_touched(MOST_TOUCHED)
        ],
    }


def _with_shares(counts: Counts) -> dict[str, Any]:
    """Each count and its share of all messages of the same kind."""
    whole = counts.messages
    parts = attrs.asdict(counts).items()
    shares = {name: {"messages": part, "share": share(part, whole)} for name, part in parts}
    return {"total": whole, **shares}
