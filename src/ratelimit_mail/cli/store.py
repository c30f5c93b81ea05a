"""Open the store that the option --store names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ratelimit_mail._util.text import escape
from ratelimit_mail.backends import Backend, from_url
from ratelimit_mail.cli.errors import CommandError

__all__ = ["opened_store"]


@contextmanager
def opened_store(url: str | Backend | None) -> Iterator[Backend | None]:
    """Yield the backend that a URL names, None without a URL; it is closed at the end.

    url: a backend, of a program that has these commands among its own, is yielded and stays open.

    Raises CommandError that says what is wrong with the URL, without its password.
    """
    if url is None or not isinstance(url, str):
        yield url
        return
    try:
        backend = from_url(url)
    except (ValueError, ModuleNotFoundError) as error:
        raise CommandError(f"--store: {escape(str(error))}") from None
    try:
        yield backend
    finally:
        close = getattr(backend, "close", None)
        if close is not None:
            close()
