"""The Django app: its system checks, and the permissions for the pages of the admin site."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate

__all__ = ["RatelimitMailConfig"]


class RatelimitMailConfig(AppConfig):
    """The app `"ratelimit_mail.adapters.django"` in INSTALLED_APPS; it has no models."""

    name = "ratelimit_mail.adapters.django"
    label = "ratelimit_mail"
    verbose_name = "Mail limits"

    def ready(self) -> None:
        """Register the checks, and have the permissions created after each `migrate`."""
        from ratelimit_mail.adapters.django import checks
        from ratelimit_mail.adapters.django.permissions import create_permissions

        checks.register_checks()
        if apps.is_installed("django.contrib.auth"):
            sender: Any = apps.get_app_config("auth")
            post_migrate.connect(
                create_permissions, sender=sender, dispatch_uid="ratelimit_mail.permissions"
            )
