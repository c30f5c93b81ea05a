"""Make a backend from a URL: the one text that names a store wherever a person configures one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, unquote_plus

from ratelimit_mail._util.text import show
from ratelimit_mail.backends.base import AsyncBackend, Backend
from ratelimit_mail.backends.memory import MemoryBackend

__all__ = ["async_from_url", "from_url"]

REDIS: Final = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)

EXAMPLES: Final = (
    "memory:",
    "sqlite:///counts.db",
    "sqlite:////var/lib/mail/counts.db",
    "redis://localhost:6379/0",
    *(f"{scheme}://" for scheme in REDIS[1:]),
)

Clock = Callable[[], int]


def from_url(url: str, *, clock: Clock | None = None) -> Backend:
    """Return the backend that a URL names, for `Limiter`.

    url: `memory:`; `sqlite:///counts.db` for a path from the current directory,
        `sqlite:////var/lib/counts.db` for an absolute one, with the options `durability` and
        `timeout`; or a URL of `RedisBackend.from_url`, with the option `prefix` too. Options are a
        query: `sqlite:///counts.db?durability=power&timeout=5`. Special characters are
        percent-encoded.
    clock: returns integer milliseconds since the epoch, for tests.

    Nothing is opened and no server is asked. Raises ValueError that says what is wrong with the
    URL, without its password.
    """
    scheme = _scheme(url)
    if scheme == "memory":
        return _memory(url, clock)
    if scheme == "sqlite":
        from ratelimit_mail.backends.sqlite import SQLiteBackend

        path, options = _sqlite(url)
        return SQLiteBackend(path, clock=clock, **options)
    from ratelimit_mail.backends.redis import RedisBackend

    url, options = _redis(url)
    return RedisBackend.from_url(url, clock=clock, **options)


def async_from_url(url: str, *, clock: Clock | None = None) -> AsyncBackend | MemoryBackend:
    """Return the backend that a URL names, for `AsyncLimiter`; see `from_url`.

    clock: for tests, the time in milliseconds since the epoch.
    """
    scheme = _scheme(url)
    if scheme == "memory":
        return _memory(url, clock)
    if scheme == "sqlite":
        from ratelimit_mail.backends.sqlite import AsyncSQLiteBackend

        path, options = _sqlite(url)
        return AsyncSQLiteBackend(path, clock=clock, **options)
    from ratelimit_mail.backends.redis import AsyncRedisBackend

    url, options = _redis(url)
    return AsyncRedisBackend.from_url(url, clock=clock, **options)


def _scheme(url: object) -> str:
    """Return the scheme of a URL, which is one of those that are known."""
    if not isinstance(url, str):
        raise TypeError(f"url: a string is needed, not {show(type(url))}")
    scheme, colon, _ = url.partition(":")
    # The scheme is not shown: without one, the text before a colon may be anything.
    if not colon or scheme not in ("memory", "sqlite", *REDIS):
        raise ValueError(f"url: it does not begin as one of {', '.join(EXAMPLES)}")
    return scheme


def _memory(url: str, clock: Clock | None) -> MemoryBackend:
    if url not in ("memory:", "memory://"):
        raise ValueError("url: memory: takes nothing after it")
    return MemoryBackend(clock)


def sqlite_path(url: str) -> str | None:
    """Return the path of the file that a URL names; None if it names no SQLite file.

    Raises ValueError if the URL is not valid.
    """
    return _sqlite(url)[0] if _scheme(url) == "sqlite" else None


def _sqlite(url: str) -> tuple[str, dict[str, Any]]:
    """Return the path and the options of a SQLite URL."""
    location, _, query = url.partition("?")
    if not location.startswith("sqlite:///"):
        raise ValueError(
            "url: after sqlite: stands the path of a file and no host. Write sqlite:///counts.db"
            " for a path from the current directory, or sqlite:////var/lib/counts.db"
        )
    if "#" in url:
        raise ValueError(f"url {show(location)}: in a path, # is written %23")
    path = unquote(location.removeprefix("sqlite:///"), errors="surrogateescape")
    if path in ("", ":memory:"):
        raise ValueError(
            f"url {show(location)}: the path of a file is missing; for memory write memory:"
        )
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in _SQLITE_OPTIONS:
            raise ValueError(
                f"url {show(location)}: the option {show(name)} is not one of"
                f" {', '.join(_SQLITE_OPTIONS)}"
            )
        if name in options:
            raise ValueError(f"url {show(location)}: the option {name} stands there twice")
        try:
            options[name] = _SQLITE_OPTIONS[name](text)
        except ValueError as error:
            raise ValueError(f"url {show(location)}: {name}: {show(text)} {error}") from None
    return path, options


def _durability(text: str) -> str:
    if text not in ("process", "power"):
        raise ValueError("is neither process nor power")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text) if len(text) < 40 else -1.0
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 3600:
        raise ValueError("is not a number of seconds from 0 on and below 3600")
    return seconds


_SQLITE_OPTIONS: Final[dict[str, Callable[[str], Any]]] = {
    "durability": _durability,
    "timeout": _seconds,
}


def _redis(url: str) -> tuple[str, dict[str, Any]]:
    """Return a Redis URL without the option `prefix`, and that option."""
    location, question_mark, query = url.partition("?")
    pairs = query.split("&")
    prefixes = [pair for pair in pairs if pair.startswith("prefix=")]
    if not prefixes or "#" in url:
        return url, {}
    if len(prefixes) > 1:
        raise ValueError("url: the option prefix stands there twice")
    query = "&".join(pair for pair in pairs if pair not in prefixes)
    prefix = unquote_plus(prefixes[0].removeprefix("prefix="))
    return location + (question_mark + query if query else ""), {"prefix": prefix}
