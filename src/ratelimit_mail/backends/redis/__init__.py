"""Counts in Redis: one server, Sentinel, Cluster or Valkey, in both colours."""

from ratelimit_mail.backends.redis.awaited import AsyncRedisBackend
from ratelimit_mail.backends.redis.blocking import RedisBackend

__all__ = ["AsyncRedisBackend", "RedisBackend"]
