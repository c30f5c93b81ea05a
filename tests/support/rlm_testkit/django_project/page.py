"""The settings that a page of the documentation shows, put into force while its blocks run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.test import override_settings

from rlm_testkit.django_project import HAS_MAILERS, configure

__all__ = ["end", "use_settings"]

_in_force: list[override_settings] = []


def use_settings(names: Mapping[str, Any]) -> None:
    """Use the settings that the blocks have defined so far, in the form of this Django.

    names: with MAILERS, EMAIL_BACKEND and RATELIMIT_MAIL, of which Django 6.1 reads MAILERS.
    """
    end()
    wanted = ("MAILERS", "RATELIMIT_MAIL") if HAS_MAILERS else ("EMAIL_", "RATELIMIT_MAIL")
    settings = {name: value for name, value in names.items() if name.startswith(wanted)}
    if HAS_MAILERS:
        options = {**settings["MAILERS"]["default"]["OPTIONS"], **settings.pop("RATELIMIT_MAIL")}
        settings["MAILERS"] = {"default": {**settings["MAILERS"]["default"], "OPTIONS": options}}
    configure()
    override = override_settings(**settings)
    override.enable()
    _in_force.append(override)


def end() -> None:
    """Use the settings from before, and close the outboxes that the blocks have opened."""
    if _in_force:
        from ratelimit_mail.adapters.django.registry import close_outboxes

        close_outboxes()
        _in_force.pop().disable()
