"""Alerts and metrics: events as mail, webhook and syslog, decisions as numbers."""

from ratelimit_mail.monitoring.alerts import Alerts
from ratelimit_mail.monitoring.mail import MailAlerts
from ratelimit_mail.monitoring.settings import Monitoring, MonitoringSettings
from ratelimit_mail.monitoring.system_log import SystemLogAlerts
from ratelimit_mail.monitoring.webhook import WebhookAlerts

__all__ = [
    "Alerts",
    "MailAlerts",
    "Monitoring",
    "MonitoringSettings",
    "SystemLogAlerts",
    "WebhookAlerts",
]
