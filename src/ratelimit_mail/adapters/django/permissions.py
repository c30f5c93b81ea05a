"""The permissions for the pages of the admin site, which belong to no model."""

from __future__ import annotations

from typing import Any, Final

from django.db import router

__all__ = ["LABEL", "PERMISSIONS", "create_permissions"]

LABEL: Final = "ratelimit_mail"

PERMISSIONS: Final = {
    ("usage", "view_usage"): "Can view the usage of mail limits",
    ("outbox", "view_outbox"): "Can view the mail outbox",
    ("outbox", "change_outbox"): "Can retry and cancel mail in the outbox",
}
"""The names of the permissions, by the page and the codename."""


def create_permissions(using: str, apps: Any, **_: Any) -> None:
    """Create the permissions in a database that has those of Django; a second time changes nothing.

    using: the database that was migrated. apps: its state after that.
    """
    try:
        permission = apps.get_model("auth", "Permission")
        content_type = apps.get_model("contenttypes", "ContentType")
    except LookupError:  # their tables have been removed
        return
    if not all(router.allow_migrate_model(using, each) for each in (permission, content_type)):
        return
    for (page, codename), name in PERMISSIONS.items():
        page_type, _ = content_type.objects.using(using).get_or_create(app_label=LABEL, model=page)
        permission.objects.using(using).get_or_create(
            content_type=page_type, codename=codename, defaults={"name": name}
        )
