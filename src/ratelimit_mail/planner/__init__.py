"""The planner: when each message of a mailing will have gone, and which limit holds it."""

from ratelimit_mail.planner.plan import CannotFinish, Held, Hour, MailingPlan
from ratelimit_mail.planner.planner import MOST_RECIPIENTS, SENDER, plan_mailing

__all__ = [
    "MOST_RECIPIENTS",
    "SENDER",
    "CannotFinish",
    "Held",
    "Hour",
    "MailingPlan",
    "plan_mailing",
]
