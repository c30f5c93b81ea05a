"""Where counts live: in the memory of one process, in a SQLite file, or in Redis."""

from typing import TYPE_CHECKING

from ratelimit_mail._util.lazy_names import lazy_names
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

# redis-py takes ten times as long to import as this package.
__getattr__ = lazy_names(
    __name__,
    {
        "AsyncRedisBackend": "redis",
        "AsyncSQLiteBackend": "sqlite",
        "RedisBackend": "redis",
        "SQLiteBackend": "sqlite",
        "async_from_url": "urls",
        "from_url": "urls",
    },
)
