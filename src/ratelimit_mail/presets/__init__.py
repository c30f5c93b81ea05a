"""Policies with the limits of real institutions; each states its numbers, source and date."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from ratelimit_mail.policy import Policy
from ratelimit_mail.presets import (
    amazon,
    google,
    leeds,
    mailbox_providers,
    microsoft,
    named_by_western,
    relay,
    sending_services,
    western,
)
from ratelimit_mail.presets.amazon import amazon_ses
from ratelimit_mail.presets.google import gmail, google_workspace
from ratelimit_mail.presets.leeds import leeds_office365, leeds_smtp
from ratelimit_mail.presets.mailbox_providers import (
    icloud_mail,
    ionos,
    proton_mail,
    proton_mail_free,
    zoho_mail,
    zoho_mail_free,
)
from ratelimit_mail.presets.microsoft import (
    azure_communication_services,
    exchange_online,
    outlook_com,
    tenant_external_recipients,
)
from ratelimit_mail.presets.named_by_western import (
    comcast,
    earthlink,
    gmail_webmail,
    hotmail,
    roadrunner,
    yahoo,
)
from ratelimit_mail.presets.parameters import explain_parameters
from ratelimit_mail.presets.relay import campus_relay
from ratelimit_mail.presets.sending_services import brevo, mailgun, postmark, resend, sendgrid
from ratelimit_mail.presets.source import Figure, Page, Source
from ratelimit_mail.presets.western import western_convergence, western_office365

__all__ = [
    "PRESETS",
    "SOURCES",
    "Figure",
    "Page",
    "Source",
    "amazon_ses",
    "azure_communication_services",
    "brevo",
    "campus_relay",
    "comcast",
    "earthlink",
    "exchange_online",
    "gmail",
    "gmail_webmail",
    "google_workspace",
    "hotmail",
    "icloud_mail",
    "ionos",
    "leeds_office365",
    "leeds_smtp",
    "mailgun",
    "outlook_com",
    "postmark",
    "proton_mail",
    "proton_mail_free",
    "resend",
    "roadrunner",
    "sendgrid",
    "tenant_external_recipients",
    "western_convergence",
    "western_office365",
    "yahoo",
    "zoho_mail",
    "zoho_mail_free",
]

PRESETS: Final[Mapping[str, Callable[[], Policy]]] = MappingProxyType(
    {
        "leeds-office365": leeds_office365,
        "leeds-smtp": leeds_smtp,
        "western-convergence": western_convergence,
        "western-office365": western_office365,
        "campus-relay": campus_relay,
        "exchange-online": exchange_online,
        "google-workspace": google_workspace,
        "gmail": gmail,
        "outlook-com": outlook_com,
        "icloud-mail": icloud_mail,
        "ionos": ionos,
        "proton-mail": proton_mail,
        "proton-mail-free": proton_mail_free,
        "zoho-mail": zoho_mail,
        "zoho-mail-free": zoho_mail_free,
        "amazon-ses": amazon_ses,
        "azure-communication-services": azure_communication_services,
        "brevo": brevo,
        "mailgun": mailgun,
        "postmark": postmark,
        "resend": resend,
        "sendgrid": sendgrid,
        "comcast": comcast,
        "earthlink": earthlink,
        "roadrunner": roadrunner,
        "gmail-webmail": gmail_webmail,
        "hotmail": hotmail,
        "yahoo": yahoo,
    }
)
"""The presets by the name of their policy, which is also their name on the command line."""

explain_parameters(PRESETS.values())

SOURCES: Final[Mapping[str, Source]] = MappingProxyType(
    {
        "leeds-office365": leeds.OFFICE365,
        "leeds-smtp": leeds.SMTP,
        "western-convergence": western.CONVERGENCE,
        "western-office365": western.OFFICE365,
        "campus-relay": relay.RELAY,
        "exchange-online": microsoft.EXCHANGE_ONLINE,
        "google-workspace": google.WORKSPACE,
        "gmail": google.GMAIL,
        "outlook-com": microsoft.OUTLOOK_COM,
        "icloud-mail": mailbox_providers.ICLOUD_MAIL,
        "ionos": mailbox_providers.IONOS,
        "proton-mail": mailbox_providers.PROTON_MAIL,
        "proton-mail-free": mailbox_providers.PROTON_MAIL_FREE,
        "zoho-mail": mailbox_providers.ZOHO_MAIL,
        "zoho-mail-free": mailbox_providers.ZOHO_MAIL_FREE,
        "amazon-ses": amazon.SES,
        "azure-communication-services": microsoft.AZURE,
        "brevo": sending_services.BREVO,
        "mailgun": sending_services.MAILGUN,
        "postmark": sending_services.POSTMARK,
        "resend": sending_services.RESEND,
        "sendgrid": sending_services.SENDGRID,
        "comcast": named_by_western.ISP,
        "earthlink": named_by_western.ISP,
        "roadrunner": named_by_western.ISP,
        "gmail-webmail": named_by_western.WEBMAIL,
        "hotmail": named_by_western.WEBMAIL,
        "yahoo": named_by_western.WEBMAIL,
    }
)
"""The sources of each preset's figures, by the same names."""
