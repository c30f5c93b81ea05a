"""The one limiter of a process, and the one outbox, for each policy, store and file.

Django makes an e-mail backend for each call of `send_mail`, in every thread, and again when
settings are overridden. All that have the same policy and store share a limiter here. A forked
process, such as a worker of Gunicorn with `--preload`, goes on with the limiter of its parent: the
stores open connections of their own after a fork.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from django.core.exceptions import ImproperlyConfigured

from ratelimit_mail._util.text import escape, show
from ratelimit_mail.adapters.django.configuration import (
    DEFAULT_ALIAS,
    Mailer,
    MailerOptions,
    project_mailers,
    read_options,
)
from ratelimit_mail.backends import Backend, from_url
from ratelimit_mail.exceptions import PolicyFileError
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.monitoring import Monitoring, MonitoringSettings
from ratelimit_mail.outbox import Outbox
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets import PRESETS

__all__ = [
    "alias_of",
    "close_outboxes",
    "get_limiter",
    "get_outbox",
    "limiter_of",
    "mailer_of",
    "options_of",
    "outbox_of",
    "policy_of",
    "store_of",
]

T = TypeVar("T")
Key = tuple[object, ...]


class _Registry:
    """What a process has made so far."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.stores: dict[str, Backend] = {}
        self.limiters: dict[Key, Limiter] = {}
        self.outboxes: dict[Key, Outbox] = {}
        self.abandoned: list[Outbox] = []

    def before_fork(self) -> None:
        """Close the connections of outboxes: they must not be used on both sides of a fork."""
        self.lock.acquire()
        close_outboxes()

    def after_fork_in_parent(self) -> None:
        """Let other threads go on."""
        self.lock.release()

    def after_fork_in_child(self) -> None:
        """Take a new lock, and make new outboxes."""
        self.lock = threading.RLock()
        self.abandoned += self.outboxes.values()
        self.outboxes = {}


_registry: Final = _Registry()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_registry.before_fork,
        after_in_parent=_registry.after_fork_in_parent,
        after_in_child=_registry.after_fork_in_child,
    )


def policy_of(policy: str | os.PathLike[str] | Policy | None) -> Policy:
    """Return a preset by its name, or load a policy file.

    Raises ValueError that names the nearest presets, or all errors in the file.
    """
    if isinstance(policy, Policy):
        return policy
    name = os.fspath(policy or "")
    if name in PRESETS:
        return PRESETS[name]()
    if isinstance(policy, os.PathLike) or name.lower().endswith(".toml") or _is_path(name):
        return Policy.load(name)
    import difflib

    near = difflib.get_close_matches(name[:100].lower(), PRESETS, cutoff=0.4) or [*PRESETS]
    raise ValueError(
        f"POLICY: there is no preset {show(name)}; did you mean {' or '.join(near)}?"
        " The name of a policy file ends in .toml"
    )


def _is_path(name: str) -> bool:
    return "/" in name or os.sep in name


def _policy_key(policy: str | os.PathLike[str] | Policy | None) -> object:
    if isinstance(policy, Policy):
        return id(policy)  # the limiter holds it, so that the number is not used again
    name = os.fspath(policy or "")
    return name if name in PRESETS else os.path.abspath(name)


def limiter_of(options: MailerOptions) -> Limiter:
    """Return the limiter of a mailer: the same for all with this policy and store.

    Raises ImproperlyConfigured if the policy, the store or the alerts cannot be used.
    """
    if options.limiter is not None:
        return options.limiter
    key = (_policy_key(options.policy), options.store)
    with _registry.lock:
        limiter = _registry.limiters.get(key)
        if limiter is None:
            policy = _usable(lambda: policy_of(options.policy))
            store = _registry.stores.get(options.store)
            if store is None:
                store = _usable(lambda: from_url(options.store))
                _registry.stores[options.store] = store
            started = _usable(lambda: _monitoring(options.policy, policy.name, store))
            limiter = _registry.limiters[key] = Limiter(
                policy, store, on_event=started.on_event, metrics=started.metrics
            )
        return limiter


def store_of(options: MailerOptions) -> Backend:
    """Return the store of a mailer's limiter, to count there by another limiter.

    Raises ImproperlyConfigured as `limiter_of` does.
    """
    limiter = limiter_of(options)
    if options.limiter is not None:
        return limiter._backend
    return _registry.stores[options.store]


def _monitoring(
    policy: str | os.PathLike[str] | Policy | None, name: str, store: Backend
) -> Monitoring:
    """Start the alerts and metrics that the policy file configures.

    No scrapes are answered: of several workers on one host, only one could listen.
    """
    file = None if isinstance(policy, Policy) else policy
    return MonitoringSettings.find(file).start(name, store, listens=False)


def _usable(make: Callable[[], T]) -> T:
    try:
        return make()
    except (ValueError, TypeError, PolicyFileError, ModuleNotFoundError, OSError) as error:
        raise ImproperlyConfigured(escape(str(error))) from None


def outbox_of(options: MailerOptions) -> Outbox:
    """Return the outbox of a mailer, for putting and looking: one for each file and limiter."""
    limiter = limiter_of(options)
    if options.outbox is None:
        raise ImproperlyConfigured("OUTBOX is missing: the file of the outbox")
    key = (options.outbox, id(limiter))
    with _registry.lock:
        outbox = _registry.outboxes.get(key)
        if outbox is None:
            outbox = _registry.outboxes[key] = Outbox(options.outbox, limiter)
        return outbox


def mailer_of(using: str | None = None) -> Mailer:
    """Return a mailer of the project by its alias; without one the default, or else the first.

    Raises ImproperlyConfigured if there is none.
    """
    mailers = project_mailers()
    if not mailers:
        raise ImproperlyConfigured(
            "no mailer has this library's EmailBackend: see EMAIL_BACKEND, or MAILERS"
        )
    aliases = [each.alias for each in mailers]
    if using is None:
        using = DEFAULT_ALIAS if DEFAULT_ALIAS in aliases else aliases[0]
    if using not in aliases:
        raise ImproperlyConfigured(
            f"no mailer {show(using)} has limits; those are {', '.join(map(show, aliases))}"
        )
    return mailers[aliases.index(using)]


def options_of(using: str | None = None) -> MailerOptions:
    """Return the options of a mailer. Raises ImproperlyConfigured if they are wrong."""
    mailer = mailer_of(using)
    try:
        return read_options(mailer.values, mailer.inner)
    except ValueError as error:
        raise ImproperlyConfigured(f"{mailer.where}: {error}") from None


def alias_of(using: str | None = None) -> str | None:
    """Return the name that a mailer has in MAILERS; None if it is configured without MAILERS."""
    mailer = mailer_of(using)
    return None if mailer.where == "RATELIMIT_MAIL" else mailer.alias


def close_outboxes() -> None:
    """Close the files of all outboxes; they are opened again when they are used."""
    with _registry.lock:
        for outbox in _registry.outboxes.values():
            outbox.close()


def get_limiter(using: str | None = None) -> Limiter:
    """Return the limiter of a mailer: the one with which this process sends.

    using: its alias in MAILERS; by default `"default"`, which is the only one without MAILERS.
    """
    return limiter_of(options_of(using))


def get_outbox(using: str | None = None) -> Outbox:
    """Return the outbox of a mailer, to put messages and to look after them.

    using: the name of the mailer; None for the default.

    It does not send: `manage.py ratelimit_outbox run` does.
    """
    return outbox_of(options_of(using))
