"""The project as a WSGI application, which has sent one message before its server forks."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rlm_testkit.django_project.settings")

application = get_wsgi_application()

if "SEND_BEFORE_FORK" in os.environ:
    from django.core.mail import send_mail

    send_mail("before the fork", "Hello", None, ["bob@example.com"])
