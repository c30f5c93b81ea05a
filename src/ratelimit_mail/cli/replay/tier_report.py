"""Report tiers and delays: as tables, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.replay.by_tier import ByTier, TierCounts
from ratelimit_mail.cli.replay.formatting import duration, percent
from ratelimit_mail.cli.replay.report import Report, share
from ratelimit_mail.cli.replay.report_tables import ReportTable
from ratelimit_mail.cli.replay.retry import LIFETIME, Delays

__all__ = ["tier_json", "tier_tables"]


def tier_tables(report: Report) -> list[ReportTable]:
    """Return the tables of tiers and of delays, if there are any."""
    tables = []
    if report.by_tier is not None:
        tables.append(_tier_table(report.by_tier))
    if report.delays is not None:
        tables.append(_delay_table(report.delays))
    return tables


def tier_json(report: Report) -> dict[str, Any]:
    """Return the same for JSON, under stable keys."""
    result: dict[str, Any] = {}
    if report.by_tier is not None:
        result["by_tier"] = _by_tier_json(report.by_tier)
    if report.delays is not None:
        result["retry"] = _delay_json(report.delays)
    return result


def _tier_table(by_tier: ByTier) -> ReportTable:
    """Return the table of the clients and senders of each tier."""
    table = ReportTable(
        "Clients and senders by tier",
        ("", "seen", "affected", "share"),
        note="affected: with a message deferred or rejected",
    )
    for tier, counts in by_tier.tiers.items():
        table.rows.append((_name(tier), "", "", ""))
        for name, seen, affected in _numbers(counts):
            table.rows.append((f"  {name}", f"{seen:,}", f"{affected:,}", percent(affected, seen)))
    return table


def _by_tier_json(by_tier: ByTier) -> list[dict[str, Any]]:
    return [
        {
            "tier": tier,
            **{
                name: {"seen": seen, "affected": affected, "share": share(affected, seen)}
                for name, seen, affected in _numbers(counts)
            },
        }
        for tier, counts in by_tier.tiers.items()
    ]


def _delay_table(by_tier: Mapping[str | None, Delays]) -> ReportTable:
    """Return the table of how late messages would have gone, and which never."""
    table = ReportTable(
        "Delays with retries",
        ("", "messages"),
        note="each sender's messages in order; given up after 5 days, as mail servers do",
    )
    for tier, delays in by_tier.items():
        if len(by_tier) > 1 or tier is not None:
            table.rows.append((_name(tier), ""))
        table.rows.append(("  at once", f"{delays.at_once:,}"))
        table.rows.append(("  later", f"{len(delays.delays):,}"))
        for name, value in (("half", 0.5), ("95 %", 0.95), ("all", 1.0)):
            late = delays.percentile(value)
            if late is not None:
                table.rows.append((f"    {name} of them within", duration(late + 999)))
        table.rows.append(("  never: rejected", f"{delays.rejected:,}"))
        table.rows.append(("  never: given up", f"{delays.given_up:,}"))
        if delays.held:
            table.rows.append(("  held for a moderator", f"{delays.held:,}"))
    return table


def _delay_json(by_tier: Mapping[str | None, Delays]) -> dict[str, Any]:
    """Return the delays, with times in seconds."""
    return {
        "lifetime": LIFETIME / 1000,
        "tiers": [
            {
                "tier": tier,
                "at_once": delays.at_once,
                "delayed": len(delays.delays),
                "delay": {
                    name: None if (late := delays.percentile(value)) is None else late / 1000
                    for name, value in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
                },
                "rejected": delays.rejected,
                "given_up": delays.given_up,
                "never": delays.never,
                "held": delays.held,
            }
            for tier, delays in by_tier.items()
        ],
    }


def _name(tier: str | None) -> str:
    return "no tier" if tier is None else escape(tier)


def _numbers(counts: TierCounts) -> list[tuple[str, int, int]]:
    return [
        ("messages", counts.messages, counts.refused),
        ("clients", len(counts.clients), len(counts.affected_clients)),
        ("senders", len(counts.senders), len(counts.affected_senders)),
    ]
