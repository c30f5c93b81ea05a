"""The public names, and what importing them costs."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys

import pytest

import ratelimit_mail

NAMES = {
    "ratelimit_mail": (
        "Policy Tier RecipientLimit MessageSizeLimit MessageRateLimit RecipientRateLimit"
        " ByteRateLimit Envelope Client"
        " Limiter AsyncLimiter Decision Action RateLimitExceeded presets"
        " Override Exemption Grant Directory MailingList"
    ),
    "ratelimit_mail.conditions": "in_network has_tag protocol any_of all_of not_",
    "ratelimit_mail.client_tags": "ClientTags",
    "ratelimit_mail.backends": (
        "AsyncBackend AsyncRedisBackend AsyncSQLiteBackend Backend MemoryBackend RedisBackend"
        " SQLiteBackend async_from_url from_url"
    ),
    "ratelimit_mail.exceptions": (
        "BackendError BackendUnavailable OutboxError PolicyFileError RateLimitExceeded"
        " RateLimitMailError TransportUnavailable"
    ),
    "ratelimit_mail.events": "Delayed Failed Held OutboxEvent Recorder Released Uncertain",
    "ratelimit_mail.monitoring": (
        "Alerts MailAlerts Monitoring MonitoringSettings SystemLogAlerts WebhookAlerts"
    ),
    "ratelimit_mail.outbox": (
        "CallableTransport MaildirTransport Notices Outbox OutboxError OutboxMessage"
        " OutboxRecipient OutboxStats OutgoingMessage RetrySchedule SMTPTransport State Transport"
        " TransportUnavailable"
    ),
    "ratelimit_mail.testing": (
        "AsyncBackendConformance BackendConformance BruteForceBackend ManualClock"
    ),
    "ratelimit_mail.adapters.smtplib": "LimitedSMTP LimitedSMTP_SSL SMTPRateLimitExceeded",
    "ratelimit_mail.adapters.aiosmtplib": "LimitedSMTP SMTPRateLimitExceeded send",
    "ratelimit_mail.adapters.aiosmtpd": "LimitedHandler client_of",
    "ratelimit_mail.adapters.boto3": "LimitedSES SendingLimitExceeded ses_policy",
    "ratelimit_mail.adapters.celery": "SendingUncertain limited_task",
    "ratelimit_mail.adapters.django": (
        "EmailBackend EmailRateLimitExceeded get_limiter get_outbox"
    ),
    "ratelimit_mail.adapters.limits": "BackendStorage ExactWindowRateLimiter",
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
    if module.startswith("ratelimit_mail.adapters."):
        pytest.importorskip(module.rpartition(".")[2])
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


def imported_with(module: str) -> list[str]:
    """Return the top-level modules that are imported together with `module`."""
    code = (
        f"import sys; before = set(sys.modules); import {module};"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    imported = result.stdout.split()
    assert module.partition(".")[0] in imported
    return imported


@pytest.mark.parametrize(
    "module", ["redis", "click", "rich", "limits", "asyncio", "sqlite3", "smtplib"]
)
def test_importing_the_package_does_not_import_slow_modules(module: str) -> None:
    assert module not in imported_with("ratelimit_mail")


EMAIL_CHECK = (
    "from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy, RecipientLimit,"
    " RecipientRateLimit"
)
UNUSED = {
    "base64",
    "difflib",
    "ipaddress",
    "json",
    *(
        f"ratelimit_mail.{name}"
        for name in (
            "address_digests",
            "calendars",
            "conditions",
            "limiter.decorator",
            "limiter.reservations",
            "overrides",
            "policy.tiers",
            "rate_guesses",
            "rules",
            "smtp_addresses",
            "smtp_errors",
            "smtp_reply",
            "usage",
        )
    ),
}


def test_the_names_of_an_email_check_do_not_import_what_it_does_without() -> None:
    code = f"import attrs, sys; before = set(sys.modules); {EMAIL_CHECK}"
    result = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*set(sys.modules) - before)"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(result.stdout.split())
    assert "ratelimit_mail.limiter.operations" in imported
    assert UNUSED & imported == set()
    for name in sorted(UNUSED):
        importlib.import_module(name)  # each of them is there


@pytest.mark.parametrize(
    "package", ["planner", "testing.conformance", "outbox", "cli.command", "events", "presets"]
)
def test_programs_do_not_need_the_libraries_of_the_tests(package: str) -> None:
    imported = imported_with(f"ratelimit_mail.{package}")
    assert not {"pytest", "_pytest", "hypothesis", "rlm_testkit"}.intersection(imported)


LIBRARIES = {"aiosmtpd", "aiosmtplib", "boto3", "botocore", "celery", "click", "django", "limits"}


@pytest.mark.parametrize(
    ("adapter", "libraries"),
    [
        ("smtplib", set[str]()),
        ("aiosmtplib", {"aiosmtplib"}),
        ("aiosmtpd", {"aiosmtpd"}),
        ("boto3", {"botocore"}),
        ("celery", {"celery"}),
        ("django", {"django"}),
        ("limits", {"limits"}),
    ],
)
def test_each_adapter_imports_its_own_library_only(adapter: str, libraries: set[str]) -> None:
    if libraries:
        pytest.importorskip(adapter)
    imported = LIBRARIES.intersection(imported_with(f"ratelimit_mail.adapters.{adapter}"))
    if adapter == "celery":  # it imports click itself, and Django where that is installed
        imported -= {"click", "django"}.intersection(imported_with("celery.app.base"))
    assert imported == libraries


def test_the_package_knows_its_version() -> None:
    assert ratelimit_mail.__version__ == importlib.metadata.version("ratelimit-mail")


def test_the_command_runs_as_a_module() -> None:
    program = [sys.executable, "-m", "ratelimit_mail", "--version"]
    result = subprocess.run(program, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("ratelimit-mail, version ")
