"""Where counts live: in the memory of one process, or in Redis."""

from typing import TYPE_CHECKING, Any

from ratelimit_mail.backends.base import AsyncBackend, Backend
from ratelimit_mail.backends.memory import MemoryBackend

if TYPE_CHECKING:
    from ratelimit_mail.backends.redis import AsyncRedisBackend, RedisBackend

__all__ = ["AsyncBackend", "AsyncRedisBackend", "Backend", "MemoryBackend", "RedisBackend"]


def __getattr__(name: str) -> Any:
    if name in ("AsyncRedisBackend", "RedisBackend"):
        # Imported here, because redis-py takes ten times as long to import as this package.
        import ratelimit_mail.backends.redis as redis_backends

        return getattr(redis_backends, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
