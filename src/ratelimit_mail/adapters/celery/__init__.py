"""Celery tasks under the limits of a policy: each sends one message, when it may go."""

from ratelimit_mail.adapters.celery.task import SendingUncertain, limited_task

__all__ = ["SendingUncertain", "limited_task"]
