"""Django: an e-mail backend under the limits of a policy, checks, a command and admin pages.

`EMAIL_BACKEND = "ratelimit_mail.adapters.django.EmailBackend"`, or the BACKEND of a mailer in
MAILERS (Django 6.1), wraps the backend that sends. As an app in INSTALLED_APPS,
"ratelimit_mail.adapters.django" adds system checks, `manage.py ratelimit_outbox`, and two pages of
the admin site: how much of each limit a sender has used, and the outbox.
"""

from ratelimit_mail.adapters.django.backend import EmailBackend
from ratelimit_mail.adapters.django.errors import EmailRateLimitExceeded
from ratelimit_mail.adapters.django.registry import get_limiter, get_outbox

__all__ = ["EmailBackend", "EmailRateLimitExceeded", "get_limiter", "get_outbox"]
