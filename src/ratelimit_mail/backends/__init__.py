"""Where counts live: in the memory of one process, in a SQLite file, or in Redis."""

from typing import TYPE_CHECKING, Any

from ratelimit_mail.backends.base import AsyncBackend, Backend
from ratelimit_mail.backends.memory import MemoryBackend

if TYPE_CHECKING:
    from ratelimit_mail.backends.redis import AsyncRedisBackend, RedisBackend
    from ratelimit_mail.backends.sqlite import AsyncSQLiteBackend, SQLiteBackend
    from ratelimit_mail.backends.urls import async_from_url, from_url

__all__ = [
    "AsyncBackend",
    "AsyncRedisBackend",
    "AsyncSQLiteBackend",
    "Backend",
    "MemoryBackend",
    "RedisBackend",
    "SQLiteBackend",
    "async_from_url",
    "from_url",
]


def __getattr__(name: str) -> Any:
    # Imported here, because redis-py takes ten times as long to import as this package.
    if name in ("AsyncRedisBackend", "RedisBackend"):
        import ratelimit_mail.backends.redis as redis_backends

        return getattr(redis_backends, name)
    if name in ("AsyncSQLiteBackend", "SQLiteBackend"):
        import ratelimit_mail.backends.sqlite as sqlite_backends

        return getattr(sqlite_backends, name)
    if name in ("async_from_url", "from_url"):
        import ratelimit_mail.backends.urls as urls

        return getattr(urls, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
