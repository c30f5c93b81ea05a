"""Watch: sees every decision of a limiter, and works out the events that somebody is told."""

from ratelimit_mail.watching.watch import Watch

__all__ = ["Watch"]
