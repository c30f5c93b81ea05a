"""The plans of a mailing as JSON; the keys are stable."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ratelimit_mail.cli.plan.mailing import Mailing
from ratelimit_mail.planner import CannotFinish, Cause, MailingPlan

__all__ = ["Outcome", "as_json"]

Outcome = tuple[str, MailingPlan | CannotFinish]
"""The name of a policy, and its plan or the reason why there is none."""


def as_json(mailing: Mailing, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the plans for JSON; times are Unix seconds, `after` is in seconds after the start."""
    return {
        "start": _start(mailing, outcomes).timestamp(),
        "messages": len(mailing.messages),
        "recipients": mailing.recipients,
        "plans": [_plan(name, outcome) for name, outcome in outcomes],
    }


def _start(mailing: Mailing, outcomes: Sequence[Outcome]) -> datetime:
    plans = (outcome for _, outcome in outcomes if isinstance(outcome, MailingPlan))
    return mailing.start or next((plan.start for plan in plans), datetime.now(UTC))


def _plan(name: str, outcome: MailingPlan | CannotFinish) -> dict[str, Any]:
    if isinstance(outcome, CannotFinish):
        return {"policy": name, "never": str(outcome)}
    plan = outcome
    return {
        "policy": name,
        "never": None,
        "first": _moment(plan, plan.first),
        "half": _moment(plan, plan.half),
        "last": _moment(plan, plan.last),
        "longest_held": None if plan.longest_held is None else str(plan.longest_held),
        "held": [
            {
                "limit": str(held.limit),
                "from": _moment(plan, held.start),
                "to": _moment(plan, held.end),
                "waiting": held.waiting,
            }
            for held in plan.held
        ],
        "by_hour": [
            {
                "hour": hour.number,
                "messages": hour.messages,
                "recipients": hour.recipients,
                "held": _names(hour.held),
            }
            for hour in plan.by_hour
        ],
    }


def _moment(plan: MailingPlan, moment: datetime) -> dict[str, float]:
    return {"time": moment.timestamp(), "after": (moment - plan.start).total_seconds()}


def _names(limits: Sequence[Cause]) -> list[str]:
    return [str(limit) for limit in limits]
