"""Alerts and metrics: what tells people, and their dashboards, about limits that are reached."""

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
