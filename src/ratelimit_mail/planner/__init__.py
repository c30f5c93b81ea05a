"""Plan a mailing: when each message will have gone, and which limit delays it."""

from ratelimit_mail.planner.plan import CannotFinish, Cause, DelayPeriod, Hour, MailingPlan
from ratelimit_mail.planner.planner import MOST_RECIPIENTS, SENDER, plan_mailing
from ratelimit_mail.planner.working_hours import WorkingHours

__all__ = [
    "MOST_RECIPIENTS",
    "SENDER",
    "CannotFinish",
    "Cause",
    "DelayPeriod",
    "Hour",
    "MailingPlan",
    "WorkingHours",
    "plan_mailing",
]
