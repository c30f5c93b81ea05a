"""`help()` of everything public mentions each of its parameters."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest
from rlm_testkit.django_project import ready  # noqa: F401 - settings for the module of Django

import ratelimit_mail
from ratelimit_mail._util.documentation import with_arguments_of, with_methods_of

ADAPTERS = ("aiosmtpd", "aiosmtplib", "boto3", "celery", "django", "limits", "smtplib")
PACKAGES = (
    *("backends", "conditions", "directory", "events", "exceptions", "mailing", "monitoring"),
    *("outbox", "planner", "presets", "testing"),
    *(f"adapters.{name}" for name in ADAPTERS),
)
MODULES = ("ratelimit_mail", *(f"ratelimit_mail.{name}" for name in PACKAGES))

UNNAMED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def documented(module: str) -> Iterator[tuple[str, Any, str]]:
    """Yield each public callable of a module: its name, itself, and what `help()` says about it."""
    for name in importlib.import_module(module).__all__:
        value = getattr(importlib.import_module(module), name)
        if inspect.isfunction(value):
            yield name, value, value.__doc__ or ""
        if not inspect.isclass(value) or issubclass(value, Enum):
            continue
        yield name, value, f"{value.__doc__} {value.__init__.__doc__}"
        for method in vars(value):
            function = inspect.unwrap(getattr(value, method))
            if not method.startswith("_") and callable(function):
                yield f"{name}.{method}", function, inspect.getdoc(function) or ""


def parameters(function: Any) -> list[str]:
    try:
        found = inspect.signature(function).parameters.values()
    except ValueError:
        return []
    return [
        each.name
        for each in found
        if each.kind not in UNNAMED and each.name not in ("self", "cls") and each.name[0] != "_"
    ]


@pytest.mark.parametrize("module", MODULES)
def test_each_parameter_is_mentioned_where_help_shows_it(module: str) -> None:
    missing = [
        f"{name}({parameter}=)"
        for name, function, text in documented(module)
        for parameter in parameters(function)
        if not re.search(rf"(?<![a-zA-Z]){parameter}(?![a-zA-Z])", text)
    ]
    assert missing == []


def test_the_asynchronous_methods_explain_themselves() -> None:
    text = inspect.getdoc(ratelimit_mail.AsyncLimiter.acquire) or ""
    assert text.startswith("See `Limiter.acquire`; a cancelled wait gives its booking back.\n\n")
    assert "timeout: the most seconds to wait" in text


def test_arguments_and_methods_are_appended_below_the_summary() -> None:
    class Base:
        """The base.

        one: an argument.
        """

        def go(self) -> None:
            """Go there.

            two: another.
            """

        def stop(self) -> None:
            """Stop there."""

    @with_methods_of(Base)
    @with_arguments_of(Base)
    class Derived:
        """The derived."""

        def go(self) -> None:
            """Go elsewhere."""

        def stop(self) -> None:
            """See `Base.stop`."""

        def other(self) -> None:
            """See `Base.other`."""

    assert Derived.__doc__ == "The derived.\n\none: an argument."
    assert Derived.go.__doc__ == "Go elsewhere.\n\ntwo: another."
    assert Derived.stop.__doc__ == "See `Base.stop`.\n\nStop there."
    assert Derived.other.__doc__ == "See `Base.other`."
