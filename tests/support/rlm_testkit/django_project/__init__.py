"""A Django project of the tests' own: two databases, the admin site, and a view that sends mail.

`configure` sets Django up in this process; as `settings`, `urls` and `wsgi`, it is a project for
programs such as manage.py and Gunicorn, which read the mailer from MAILER, in JSON.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

import django
from django import conf
from django.test import override_settings

__all__ = ["BACKEND", "HAS_MAILERS", "configure", "mail_settings", "mailer"]

BACKEND: Final = "ratelimit_mail.adapters.django.EmailBackend"
HAS_MAILERS: Final = django.VERSION >= (6, 1)

_NAMES: Final = {"username": "host_user", "password": "host_password"}


def configure() -> None:
    """Set Django up, once in a process."""
    if conf.settings.configured:
        return
    project = importlib.import_module("rlm_testkit.django_project.settings")
    names = [name for name in dir(project) if name.isupper()]
    conf.settings.configure(**{name: getattr(project, name) for name in names})
    django.setup()


def mail_settings(values: dict[str, Any], **inner: Any) -> dict[str, Any]:
    """Return the settings of one mailer, in the form of this version of Django.

    values: the keys in capital letters. inner: host, port and timeout of its SMTP backend.
    """
    if HAS_MAILERS:
        return {"MAILERS": {"default": {"BACKEND": BACKEND, "OPTIONS": {**values, **inner}}}}
    return {
        "EMAIL_BACKEND": BACKEND,
        "RATELIMIT_MAIL": values,
        **{f"EMAIL_{_NAMES.get(name, name).upper()}": value for name, value in inner.items()},
    }


def mailer(values: dict[str, Any], port: int = 25, **inner: Any) -> override_settings:
    """Return a context manager in which mail goes to a server of this host."""
    inner = {"host": "127.0.0.1", "port": port, "timeout": 20, **inner}
    return override_settings(**mail_settings(values, **inner))
