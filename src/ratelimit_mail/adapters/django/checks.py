"""The system checks: every mistake in the settings that can be seen without sending a message."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

import django
from django.conf import settings
from django.core import checks
from django.core.mail.backends.base import BaseEmailBackend
from django.utils.module_loading import import_string

from ratelimit_mail._util.text import escape, show
from ratelimit_mail.adapters.django.configuration import (
    BACKEND_PATH,
    SMTP_BACKEND,
    Mailer,
    Problem,
    folder_problem,
    is_own_backend,
    is_url,
    misspelled_backends,
    own_backend_problem,
    problems_of,
    project_mailers,
    project_setting,
    served_mailers,
)
from ratelimit_mail.adapters.django.registry import policy_of
from ratelimit_mail.backends import from_url
from ratelimit_mail.exceptions import PolicyFileError
from ratelimit_mail.monitoring import MonitoringSettings

__all__ = ["check_mailers", "check_mailers_for_deployment", "register_checks"]

TAGS: Final = ("ratelimit_mail", "mail")
"""The second is that of Django 6.1's own checks of mail."""

DEVELOPMENT_BACKENDS: Final = tuple(
    f"django.core.mail.backends.{each}.EmailBackend"
    for each in ("console", "dummy", "filebased", "locmem")
)

Message = checks.CheckMessage


def register_checks() -> None:
    """Register both checks with Django."""
    checks.register(check_mailers, *TAGS)
    checks.register(check_mailers_for_deployment, *TAGS, deploy=True)


def check_mailers(app_configs: Any = None, **_: Any) -> list[Message]:  # noqa: ARG001
    """Return what is wrong with the settings of each mailer."""
    common = project_setting()
    if not isinstance(common, Mapping):
        return [_error("RATELIMIT_MAIL", problem) for problem in problems_of(common)]
    mailers = served_mailers()
    messages: list[Message] = [
        checks.Warning(
            f"{where}: {show(path)} is not an e-mail backend of ratelimit_mail, so nothing is"
            " limited.",
            hint=f"Did you mean {BACKEND_PATH!r}?",
            id="ratelimit_mail.W001",
        )
        for where, path in misspelled_backends()
    ]
    if not mailers:
        if not common or _is_test_run():
            return messages
        setting = "EMAIL_BACKEND" if django.VERSION < (6, 1) else "the BACKEND of a mailer"
        if not messages:
            messages.append(
                checks.Warning(
                    "RATELIMIT_MAIL is set, but no mail is sent with it, so nothing is limited.",
                    hint=f"Set {setting} to {BACKEND_PATH!r}.",
                    id="ratelimit_mail.W001",
                )
            )
        mailers = project_mailers()
    for mailer in mailers:
        reported: set[Problem] = set()
        for problem in (*problems_of(mailer.values), *_costly_problems(mailer.values)):
            if problem not in reported:
                reported.add(problem)
                messages.append(_error(mailer.where, problem))
    return messages


def check_mailers_for_deployment(
    app_configs: Any = None,  # noqa: ARG001
    **_: Any,
) -> list[Message]:
    """Return what is right on a developer's machine, and wrong on a server."""
    messages: list[Message] = []
    for mailer in served_mailers():
        messages += (
            checks.Warning(f"{mailer.where}: {each.text}", hint=each.hint, id=_id(each))
            for each in _deployment_problems(mailer)
        )
    return messages


def _is_test_run() -> bool:
    """Return whether Django's test runner has replaced the backends of the project."""
    from django.core import mail

    return hasattr(mail, "outbox")


def _error(where: str, problem: Problem) -> Message:
    return checks.Error(f"{where}: {problem.text}", hint=problem.hint or None, id=_id(problem))


def _id(problem: Problem) -> str:
    return f"ratelimit_mail.{problem.id}"


def _costly_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is only seen by loading the policy, and by importing the inner backend."""
    policy, store, backend = (
        values.get("POLICY"),
        values.get("STORE", "memory:"),
        values.get("BACKEND", SMTP_BACKEND),
    )
    if values.get("LIMITER") is None:
        if isinstance(policy, str | os.PathLike) and str(policy) and not is_url(policy):
            try:
                policy_of(policy)
                MonitoringSettings.find(policy)
            except (PolicyFileError, ModuleNotFoundError) as error:
                yield Problem("E004", f"POLICY: {escape(str(error))}")
            except ValueError as error:
                yield Problem("E004", str(error), "`ratelimit-mail presets` lists the presets.")
        if isinstance(store, str):
            yield from _store_problems(store)
    outbox = values.get("OUTBOX")
    if isinstance(outbox, str | os.PathLike) and str(outbox):
        text = folder_problem(os.path.abspath(os.fspath(outbox)), "OUTBOX")
        if text is not None:
            yield Problem("E008", text)
    if isinstance(backend, str) and backend != BACKEND_PATH:
        yield from _backend_problems(backend)


def _store_problems(store: str) -> Iterator[Problem]:
    try:
        from_url(store)
    except (ValueError, ModuleNotFoundError) as error:
        hint = "" if ":" in store else "The URL of a file is sqlite:/// and then its path."
        yield Problem("E005", f"STORE: {escape(str(error).removeprefix('url: '))}", hint)
        return
    if store.startswith("sqlite:"):
        path = unquote(store.partition("?")[0].removeprefix("sqlite:///"))
        text = folder_problem(os.path.abspath(path), "STORE")
        if text is not None:
            yield Problem("E005", text)


def _backend_problems(backend: str) -> Iterator[Problem]:
    try:
        backend_class = import_string(backend)
    except Exception as error:  # whatever a module of the project raises
        yield Problem(
            "E009", f"BACKEND: {show(backend)} cannot be imported ({type(error).__name__})"
        )
        return
    if not isinstance(backend_class, type) or not issubclass(backend_class, BaseEmailBackend):
        yield Problem("E009", f"BACKEND: {show(backend)} is not an e-mail backend")
    elif is_own_backend(backend):
        yield own_backend_problem()


def _deployment_problems(mailer: Mailer) -> Iterator[Problem]:
    values = mailer.values
    store, outbox = values.get("STORE", "memory:"), values.get("OUTBOX")
    backend = values.get("BACKEND", SMTP_BACKEND)
    if values.get("LIMITER") is None and isinstance(store, str):
        if store.startswith("memory:"):
            yield Problem(
                "W002",
                "STORE 'memory:' counts in each process: several workers send several times the"
                " limit, and a restart forgets what was sent",
                "Such as 'sqlite:////var/lib/mail/counts.db' for one host, or a Redis server.",
            )
        if store.startswith("sqlite:///") and not store.startswith("sqlite:////"):
            yield Problem(
                "W003",
                "STORE is a path from the current directory, which is not the same for each worker",
                "An absolute path has four slashes: sqlite:////var/lib/mail/counts.db.",
            )
    if isinstance(outbox, str | os.PathLike) and not os.path.isabs(outbox):
        yield Problem(
            "W003",
            "OUTBOX is a path from the current directory, which is not the same for each worker",
            "Such as BASE_DIR / 'outbox.db'.",
        )
    if values.get("ON_EXCESS", "wait") == "wait" and values.get("TIMEOUT") is None:
        yield Problem(
            "W004",
            "ON_EXCESS 'wait' without TIMEOUT: a request waits as long as the longest limit, which"
            " may be a day",
            "Set TIMEOUT to the seconds that a request may take, or use ON_EXCESS 'outbox'.",
        )
    if backend in DEVELOPMENT_BACKENDS:
        yield Problem("W005", f"BACKEND: {show(backend)} sends nothing", "Leave out BACKEND.")
    if backend == SMTP_BACKEND and _has_no_timeout(mailer):
        yield Problem(
            "W006",
            "the SMTP backend has no timeout: a server that does not answer stops a worker for"
            " ever",
            "Set EMAIL_TIMEOUT, or the option 'timeout' of the mailer.",
        )


def _has_no_timeout(mailer: Mailer) -> bool:
    options = mailer.values.get("OPTIONS", {})
    inner = {**(options if isinstance(options, Mapping) else {}), **mailer.inner}
    if inner.get("timeout") is not None:
        return False
    is_by_setting = mailer.where == "RATELIMIT_MAIL"
    return not (is_by_setting and getattr(settings, "EMAIL_TIMEOUT", None) is not None)
