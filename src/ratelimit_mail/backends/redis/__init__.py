"""Counts in Redis: one server, Sentinel, Cluster or Valkey, in both colours."""

from ratelimit_mail.backends.redis.aio import AsyncRedisBackend
from ratelimit_mail.backends.redis.sync import RedisBackend

__all__ = ["AsyncRedisBackend", "RedisBackend"]
