"""Open the store that the option --store names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ratelimit_mail._util.text import escape
from ratelimit_mail.backends import Backend, from_url
from ratelimit_mail.backends.urls import sqlite_path
from ratelimit_mail.cli.errors import CommandError

__all__ = ["opened_store"]


@contextmanager
def opened_store(
    url: str | Backend | None, *, must_exist: bool = False
) -> Iterator[Backend | None]:
    """Yield the backend that a URL names, None without a URL; it is closed at the end.

    url: a backend, of a program that has these commands among its own, is yielded and stays open.
    must_exist: whether a SQLite file that is not there is an error; otherwise it is created.

    Raises CommandError that says what is wrong with the URL, without its password.
    """
    if url is None or not isinstance(url, str):
        yield url
        return
    try:
        backend = from_url(url)
        path = sqlite_path(url)
    except (ValueError, ModuleNotFoundError) as error:
        raise CommandError(f"--store: {escape(str(error))}") from None
    if must_exist and path is not None and not os.path.exists(path):
        raise CommandError(
            f"--store: there is no file {escape(os.path.abspath(path))}; the first message that is"
            " counted creates it, so check the path"
        )
    try:
        yield backend
    finally:
        close = getattr(backend, "close", None)
        if close is not None:
            close()
