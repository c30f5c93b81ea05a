"""The options --alerts and --metrics, and what they start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import attrs
import click

from ratelimit_mail._util.text import escape
from ratelimit_mail.backends import Backend
from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.exceptions import PolicyFileError
from ratelimit_mail.monitoring import Monitoring, MonitoringSettings
from ratelimit_mail.monitoring.settings import MetricSettings

__all__ = [
    "monitoring_errors",
    "monitoring_options",
    "monitoring_settings",
    "started_monitoring",
]

F = TypeVar("F", bound=Callable[..., Any])


def monitoring_options(command: F) -> F:
    """Add the options --alerts and --metrics."""
    command = click.option(
        "--metrics",
        "metrics_address",
        metavar="HOST:PORT",
        help="Answer Prometheus at this address; overrides `prometheus` in [metrics].",
    )(command)
    return click.option(
        "--alerts",
        "alerts_file",
        metavar="FILE",
        envvar="RATELIMIT_MAIL_ALERTS",
        help="A file with the tables [alerts] and [metrics]; default: the environment variable"
        " RATELIMIT_MAIL_ALERTS, or else the policy file.",
    )(command)


def monitoring_settings(
    policy_name: str | None, alerts_file: str | None = None, metrics_address: str | None = None
) -> MonitoringSettings:
    """Return the settings in the file that the options name, or in the policy file."""
    try:
        settings = MonitoringSettings.find(policy_name, alerts_file)
        if metrics_address is not None:
            metrics = settings.metrics or MetricSettings()
            metrics = attrs.evolve(metrics, prometheus=metrics_address)
            settings = attrs.evolve(settings, metrics=metrics, must_listen=True)
            settings.check()
    except PolicyFileError as error:
        raise CommandError(str(error)) from None
    except ValueError as error:
        text = str(error).replace("metrics.prometheus:", "--metrics:")
        raise CommandError(escape(text)) from None
    return settings


@contextmanager
def monitoring_errors() -> Iterator[None]:
    """Turn what `MonitoringSettings.start` raises into an error of the command."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        where = "the alerts or the metrics cannot be started"
        raise CommandError(escape(f"{where}: {error.strerror or error}")) from None
    except (ValueError, TypeError) as error:  # a file with a secret that cannot be one
        raise CommandError(escape(f"alerts: {error}")) from None


@contextmanager
def started_monitoring(
    settings: MonitoringSettings, name: str, store: Backend | None
) -> Iterator[Monitoring]:
    """Yield what the settings ask for, and close it at the end."""
    with monitoring_errors():
        monitoring = settings.start(name, store)
    try:
        yield monitoring
    finally:
        monitoring.close()
