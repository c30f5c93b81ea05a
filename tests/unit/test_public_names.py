"""The public names, and what importing them costs."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import ratelimit_mail

NAMES = {
    "ratelimit_mail": (
        "Policy Tier RecipientLimit MessageRateLimit RecipientRateLimit Envelope Client"
        " Limiter AsyncLimiter Decision Action RateLimitExceeded presets"
        " Override Exemption Grant Directory MailingList"
    ),
    "ratelimit_mail.conditions": "in_network has_tag protocol any_of all_of not_",
    "ratelimit_mail.backends": (
        "AsyncBackend AsyncRedisBackend AsyncSQLiteBackend Backend MemoryBackend RedisBackend"
        " SQLiteBackend async_from_url from_url"
    ),
    "ratelimit_mail.exceptions": (
        "BackendError BackendUnavailable OutboxError PolicyFileError RateLimitExceeded"
        " RateLimitMailError TransportUnavailable"
    ),
    "ratelimit_mail.events": "Delayed Failed Held OutboxEvent Released Uncertain",
    "ratelimit_mail.outbox": (
        "CallableTransport MaildirTransport Notices Outbox OutboxError OutboxMessage"
        " OutboxRecipient OutboxStats OutgoingMessage RetrySchedule SMTPTransport State Transport"
        " TransportUnavailable"
    ),
    "ratelimit_mail.testing": (
        "AsyncBackendConformance BackendConformance BruteForceBackend ManualClock"
    ),
    "ratelimit_mail.directory": (
        "Directory DirectoryLike ListFile MailingList PastedText parse_addresses"
    ),
    "ratelimit_mail.mailing": "AttachmentFolder Letter Mailing People read_people",
    "ratelimit_mail.planner": "CannotFinish MailingPlan WorkingHours plan_mailing",
    "ratelimit_mail.presets": "leeds_office365 western_office365 western_convergence",
}


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, names in NAMES.items() for name in names.split()],
)
def test_each_public_name_is_importable_and_listed(module: str, name: str) -> None:
    imported = importlib.import_module(module)
    assert hasattr(imported, name)
    assert name in imported.__all__


def test_the_package_exports_exactly_the_public_names() -> None:
    assert sorted(ratelimit_mail.__all__) == sorted(NAMES["ratelimit_mail"].split())


METHODS = "check try_acquire try_acquire_many acquire refund reserve usage reset limited policy"


@pytest.mark.parametrize("name", METHODS.split())
def test_both_limiters_have_the_same_methods(name: str) -> None:
    assert hasattr(ratelimit_mail.Limiter, name)
    assert hasattr(ratelimit_mail.AsyncLimiter, name)


@pytest.mark.parametrize(
    "module", ["redis", "click", "rich", "limits", "asyncio", "sqlite3", "smtplib"]
)
def test_importing_the_package_does_not_import_slow_modules(module: str) -> None:
    code = (
        "import sys; before = set(sys.modules); import ratelimit_mail;"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    imported = result.stdout.split()
    assert "ratelimit_mail" in imported
    assert module not in imported
