"""Plan a mailing: when each message will have gone, and which limit delays it."""

from ratelimit_mail.planner.plan import CannotFinish, DelayPeriod, Hour, MailingPlan
from ratelimit_mail.planner.planner import MOST_RECIPIENTS, SENDER, plan_mailing

__all__ = [
    "MOST_RECIPIENTS",
    "SENDER",
    "CannotFinish",
    "DelayPeriod",
    "Hour",
    "MailingPlan",
    "plan_mailing",
]
