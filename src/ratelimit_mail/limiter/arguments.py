"""Check arguments that `Limiter`, `AsyncLimiter` and the decorator share: functions and errors."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Literal

from ratelimit_mail._util.text import show

__all__ = ["Errors", "OnDenied", "exception_classes", "is_async"]

OnDenied = Literal["wait", "raise", "skip"]
Errors = type[BaseException] | tuple[type[BaseException], ...]


def exception_classes(value: Errors | None) -> tuple[type[BaseException], ...] | None:
    """Return `refund_on=` as a tuple; None stays None. Raises TypeError for anything else."""
    if value is None:
        return None
    classes = value if isinstance(value, tuple) else (value,)
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError(f"refund_on: {show(each)} is not an exception class")
    return classes


def is_async(function: Callable[..., object]) -> bool:
    """Return whether a call of `function` is to be awaited.

    Raises TypeError if it cannot be called, and for generators.
    """
    if not callable(function):
        raise TypeError(f"{show(function)} is not a function")
    call = getattr(function, "__call__", function)  # noqa: B004 - a callable object's method
    for each in (function, call):
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            raise TypeError(f"{show(function)} is a generator; a function that sends is needed")
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
