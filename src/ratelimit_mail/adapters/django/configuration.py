"""What a Django project configures: RATELIMIT_MAIL and the OPTIONS of mailers; and the mistakes.

Each problem has the id of a system check. A backend raises the first one when it is made; the
system checks list all.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, cast

import attrs
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ratelimit_mail._util.text import escape, show
from ratelimit_mail.adapters.options import PUSHBACK
from ratelimit_mail.envelope import Client
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limiter.blocks import LONGEST_BLOCK
from ratelimit_mail.policy import Policy

__all__ = [
    "BACKEND_PATH",
    "DEFAULT_ALIAS",
    "SMTP_BACKEND",
    "Mailer",
    "MailerOptions",
    "Problem",
    "folder_problem",
    "improperly_configured",
    "is_own_backend",
    "is_own_key",
    "is_url",
    "merged",
    "misspelled_backends",
    "own_backend_problem",
    "problems_of",
    "project_mailers",
    "project_setting",
    "read_options",
    "served_mailers",
]

BACKEND_PATH: Final = "ratelimit_mail.adapters.django.EmailBackend"
SMTP_BACKEND: Final = "django.core.mail.backends.smtp.EmailBackend"
DEFAULT_ALIAS: Final = "default"

KEYS: Final = (
    "BACKEND",
    "CLIENT",
    "LIMITER",
    "ON_EXCESS",
    "OPTIONS",
    "OUTBOX",
    "POLICY",
    "PUSHBACK",
    "STORE",
    "TIMEOUT",
)

OnExcess = Literal["wait", "raise", "outbox"]


class Problem(NamedTuple):
    """A mistake in the settings: the number of its system check, what is wrong, and what to do."""

    id: str
    text: str
    hint: str = ""


class Mailer(NamedTuple):
    """A mailer of the project that this backend serves.

    alias: its name in MAILERS, `"default"` without MAILERS. where: the setting, for messages.
    values: its keys in capital letters. inner: the options of the backend that sends.
    """

    alias: str
    where: str
    values: Mapping[str, Any]
    inner: Mapping[str, Any]


@attrs.frozen(kw_only=True)
class MailerOptions:
    """The options of one mailer, checked.

    backend: the path of the class of the backend that sends, and inner: its options.
    policy: a preset's name, the path of a policy file, or a Policy. store: a URL.
    limiter: what decides instead of `policy` and `store`.
    on_excess, timeout, pushback, client: as in the adapter for smtplib. outbox: a file.
    """

    backend: str
    policy: str | os.PathLike[str] | Policy | None
    store: str = attrs.field(repr=False)  # Django's error pages show local variables
    limiter: Limiter | None
    on_excess: OnExcess
    timeout: float | None
    pushback: float | None
    client: Client | None
    outbox: str | None
    inner: Mapping[str, Any] = attrs.field(repr=False)


def improperly_configured(text: str, alias: str | None = None) -> ImproperlyConfigured:
    """Return Django's error for settings; that of a mailer if it has an alias."""
    if alias is not None:
        try:
            from django.core.mail import InvalidMailer
        except ImportError:  # before Django 6.1
            pass
        else:
            return InvalidMailer(text, alias=alias)
    return ImproperlyConfigured(text)


def project_setting() -> Any:
    """Return the setting RATELIMIT_MAIL; an empty dict without it."""
    return getattr(settings, "RATELIMIT_MAIL", {})


def merged(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a mailer, with those of RATELIMIT_MAIL for what it leaves out."""
    common = project_setting()
    return {**common, **values} if isinstance(common, Mapping) else dict(values)


PACKAGE: Final = "ratelimit_mail."

NEAR: Final = 0.8
"""How alike two paths are of which one is probably the other, misspelled."""


def is_own_backend(path: object) -> bool:
    """Return whether a path is that of this backend, or of a subclass."""
    if path == BACKEND_PATH:
        return True
    if not isinstance(path, str):
        return False
    from ratelimit_mail.adapters.django.backend import EmailBackend

    try:
        backend_class = import_string(path)
    except Exception:  # whatever importing a module of the project raises
        return False
    return isinstance(backend_class, type) and issubclass(backend_class, EmailBackend)


def project_mailers() -> list[Mailer]:
    """Return the mailers of the project that this backend serves.

    Without one, as while Django's test runner has put its own backend in place, RATELIMIT_MAIL
    alone counts as one.
    """
    mailers = served_mailers()
    common = project_setting()
    if not mailers and isinstance(common, Mapping) and common:
        return [Mailer(DEFAULT_ALIAS, "RATELIMIT_MAIL", common, {})]
    return mailers


def served_mailers() -> list[Mailer]:
    """Return the mailers that have this backend, by EMAIL_BACKEND or in MAILERS."""
    configured = _mailers_setting()
    if configured is None:
        if not is_own_backend(getattr(settings, "EMAIL_BACKEND", None)):
            return []
        return [Mailer(DEFAULT_ALIAS, "RATELIMIT_MAIL", merged({}), {})]
    mailers = []
    for alias, mailer in configured.items():
        if not isinstance(mailer, Mapping) or not is_own_backend(mailer.get("BACKEND")):
            continue
        options = mailer.get("OPTIONS", {})
        options = options if isinstance(options, Mapping) else {}
        own = {name: value for name, value in options.items() if is_own_key(name)}
        inner = {name: value for name, value in options.items() if name not in own}
        mailers.append(Mailer(str(alias), f"MAILERS[{alias!r}]", merged(own), inner))
    return mailers


def misspelled_backends() -> list[tuple[str, str]]:
    """Return where a path stands that is almost that of this backend, and the path."""
    configured = _mailers_setting()
    paths: dict[str, object] = {"EMAIL_BACKEND": getattr(settings, "EMAIL_BACKEND", None)}
    if configured is not None:
        paths = {
            f"MAILERS[{alias!r}]: BACKEND": mailer.get("BACKEND")
            for alias, mailer in configured.items()
            if isinstance(mailer, Mapping)
        }
    return [
        (where, path)
        for where, path in paths.items()
        if isinstance(path, str) and _is_near(path) and not is_own_backend(path)
    ]


def _is_near(path: str) -> bool:
    return path.startswith(PACKAGE) or bool(
        difflib.get_close_matches(path[:200], [BACKEND_PATH], cutoff=NEAR)
    )


def _mailers_setting() -> Mapping[str, Any] | None:
    """Return MAILERS; None if it is not set, or if this version of Django does not know it."""
    import django

    mailers = getattr(settings, "MAILERS", None)
    if django.VERSION < (6, 1) or not isinstance(mailers, Mapping):
        return None
    return mailers


def is_own_key(name: object) -> bool:
    """Return whether an option is this backend's: its name is in capital letters."""
    return isinstance(name, str) and name.isupper()


def read_options(values: Mapping[str, Any], inner: Mapping[str, Any]) -> MailerOptions:
    """Return the options of a mailer. Raises ValueError that says what is wrong first."""
    for problem in problems_of(values):
        raise ValueError(problem.text)
    on_excess = cast("OnExcess", values.get("ON_EXCESS", "wait"))
    outbox = values.get("OUTBOX")
    return MailerOptions(
        backend=values.get("BACKEND", SMTP_BACKEND),
        policy=values.get("POLICY"),
        store=values.get("STORE", "memory:"),
        limiter=values.get("LIMITER"),
        on_excess=on_excess,
        timeout=values.get("TIMEOUT"),
        pushback=values.get("PUSHBACK", PUSHBACK),
        client=values.get("CLIENT"),
        outbox=None if outbox is None else os.path.abspath(os.fspath(outbox)),
        inner={**values.get("OPTIONS", {}), **inner},
    )


def problems_of(values: object) -> Iterator[Problem]:
    """Yield what is wrong with the keys of a mailer, without opening or importing anything."""
    if not isinstance(values, Mapping):
        # Not its text, here and below: a mistaken value may be the URL of a store, with a password.
        yield Problem("E001", f"a dict is needed, not {type(values).__name__}")
        return
    for name in values:
        if name not in KEYS:
            yield Problem(
                "E002", f"{show(name)} is not one of the keys {', '.join(KEYS)}", _near(name)
            )
    yield from _limiter_problems(values)
    on_excess = values.get("ON_EXCESS", "wait")
    if on_excess not in ("wait", "raise", "outbox"):
        yield Problem("E006", f"ON_EXCESS: {show(on_excess)} is not one of wait, raise, outbox")
    yield from _seconds_problems(values)
    if values.get("TIMEOUT") is not None and on_excess in ("raise", "outbox"):
        yield Problem(
            "E007",
            f"TIMEOUT: only ON_EXCESS 'wait' waits, not {on_excess!r}",
            "Leave out TIMEOUT.",
        )
    outbox = values.get("OUTBOX")
    if outbox is None and on_excess == "outbox":
        yield Problem(
            "E008",
            "OUTBOX is missing: ON_EXCESS 'outbox' needs the file of the outbox",
            "Such as OUTBOX = BASE_DIR / 'outbox.db'.",
        )
    elif outbox is not None and (not isinstance(outbox, str | os.PathLike) or not str(outbox)):
        yield Problem("E008", f"OUTBOX: the path of a file is needed, not {show(outbox)}")
    backend = values.get("BACKEND", SMTP_BACKEND)
    if not isinstance(backend, str):
        yield Problem("E009", f"BACKEND: the path of a class is needed, not {show(backend)}")
    elif backend == BACKEND_PATH:
        yield own_backend_problem()
    if not isinstance(values.get("OPTIONS", {}), Mapping):
        yield Problem("E011", "OPTIONS: a dict of the options of BACKEND is needed")
    if not isinstance(values.get("CLIENT"), Client | None):
        yield Problem("E012", f"CLIENT: a Client is needed, not {type(values['CLIENT']).__name__}")


def own_backend_problem() -> Problem:
    """Return the problem of a backend that wraps itself."""
    return Problem(
        "E010",
        "BACKEND is this backend itself: it needs the one that sends",
        f"Leave out BACKEND for {SMTP_BACKEND}.",
    )


def _limiter_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
    limiter, policy = values.get("LIMITER"), values.get("POLICY")
    if limiter is not None:
        if not isinstance(limiter, Limiter):
            yield Problem("E003", f"LIMITER: a Limiter is needed, not {type(limiter).__name__}")
        elif policy is not None or "STORE" in values:
            yield Problem("E003", "LIMITER stands for POLICY and STORE: leave these out")
        return
    if policy is None or policy == "":
        yield Problem(
            "E003",
            "POLICY is missing: the name of a preset, or a policy file",
            "`ratelimit-mail presets` lists the presets.",
        )
    elif not isinstance(policy, str | os.PathLike | Policy):
        yield Problem(
            "E003",
            f"POLICY: the name of a preset, a policy file or a Policy is needed,"
            f" not {type(policy).__name__}",
        )
    elif is_url(policy):
        yield Problem(
            "E004",
            "POLICY: a URL is not a policy",
            "The URL of a store stands in STORE.",
        )
    if not isinstance(values.get("STORE", "memory:"), str):
        yield Problem("E005", "STORE: the URL of a store is needed, such as 'sqlite:///counts.db'")


def is_url(policy: object) -> bool:
    """Return whether a URL stands in place of a policy: that of a store may have a password."""
    return isinstance(policy, str) and "://" in policy


def _seconds_problems(values: Mapping[str, Any]) -> Iterator[Problem]:
    for name, least, most in (("TIMEOUT", 0.0, math.inf), ("PUSHBACK", 0.001, LONGEST_BLOCK)):
        value = values.get(name)
        if value is None:
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        try:
            is_good = is_number and least <= float(value) <= most
        except OverflowError:
            is_good = False
        if not is_good:
            yield Problem(
                "E007", f"{name}: a number of seconds or None is needed, not {show(value)}"
            )


def _near(name: object) -> str:
    import difflib

    near = difflib.get_close_matches(str(name)[:100].upper(), KEYS, 1)
    return f"Did you mean {near[0]}?" if near else ""


def folder_problem(path: str, what: str) -> str | None:
    """Return why a file cannot be in its folder; None if it can."""
    folder = Path(path).parent
    if not folder.is_dir():
        return f"{what}: the folder {escape(str(folder))} does not exist"
    if not os.access(folder, os.W_OK):
        return f"{what}: the folder {escape(str(folder))} is not writable"
    if Path(path).is_dir():
        return f"{what}: {escape(path)} is a folder"
    return None
