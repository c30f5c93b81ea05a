"""Counts in Redis or Valkey: one server, Sentinel or Cluster, sync and async."""

from ratelimit_mail.backends.redis.aio import AsyncRedisBackend
from ratelimit_mail.backends.redis.sync import RedisBackend

__all__ = ["AsyncRedisBackend", "RedisBackend"]
