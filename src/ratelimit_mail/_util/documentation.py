"""Docstrings that `help()` shows in full, also where they are written in another class."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import TypeVar

__all__ = ["with_arguments_of", "with_methods_of"]

Class = TypeVar("Class", bound=type)


def with_arguments_of(source: type) -> Callable[[Class], Class]:
    """Append what the docstring of `source` says about its arguments: all after its summary."""

    def decorate(cls: Class) -> Class:
        own, arguments = cls.__doc__, _text(source).partition("\n\n")[2]
        if own and arguments:
            cls.__doc__ = f"{inspect.cleandoc(own)}\n\n{arguments}"
        return cls

    return decorate


def with_methods_of(source: type) -> Callable[[Class], Class]:
    """Append the docstrings of the methods of `source` to those of the same names.

    All of it is appended to a docstring that begins with "See `", and to any other what is below
    the summary.
    """

    def decorate(cls: Class) -> Class:
        for name, member in vars(cls).items():
            method = getattr(member, "__func__", member)
            original = _text(getattr(source, name, None))
            own = method.__doc__ if isinstance(method, FunctionType) else None
            if own and not own.startswith("See `"):
                original = original.partition("\n\n")[2]
            if own and original:
                method.__doc__ = f"{inspect.cleandoc(own)}\n\n{original}"
        return cls

    return decorate


def _text(documented: object) -> str:
    """Return a docstring without its indentation; "" if there is none."""
    # From Python 3.13 on, None has a docstring too.
    text = None if documented is None else documented.__doc__
    return inspect.cleandoc(text) if isinstance(text, str) else ""
