"""The alerts of what an operator changes in a store, by the settings that the servers read too.

With a control socket the server reports the change itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import click

from ratelimit_mail._util.text import escape
from ratelimit_mail.backends import Backend
from ratelimit_mail.events import Dispatcher
from ratelimit_mail.exceptions import PolicyFileError
from ratelimit_mail.monitoring import MonitoringSettings

__all__ = ["ALERTS", "started_alerts"]

ALERTS = click.option(
    "--alerts",
    "alerts_file",
    metavar="FILE",
    envvar="RATELIMIT_MAIL_ALERTS",
    help="A file with the table [alerts]; default: the environment variable"
    " RATELIMIT_MAIL_ALERTS, or else the policy file. With --control the server alerts.",
)


@contextmanager
def started_alerts(
    policy_name: str, alerts_file: str | None, name: str, store: Backend
) -> Iterator[Dispatcher | None]:
    """Yield what reports the events of a limiter; at the end, wait until it has.

    What is wrong with the alerts is a warning on stderr: a block must not depend on them. A mail
    that may not go now, or that the relay does not take, stands in the store, and the next program
    that sends alerts sends it.
    """
    try:
        settings = MonitoringSettings.find(policy_name, alerts_file)
        monitoring = attrs.evolve(settings, metrics=None).start(name, store)
    except (PolicyFileError, ModuleNotFoundError, OSError, ValueError, TypeError) as error:
        click.echo(f"Warning: there is no alert: {escape(str(error))}", err=True)
        yield None
        return
    try:
        yield monitoring.on_event
    finally:
        monitoring.close()
