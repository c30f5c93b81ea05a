"""Where counts live: in the memory of one process."""

from ratelimit_mail.backends.base import AsyncBackend, Backend
from ratelimit_mail.backends.memory import MemoryBackend

__all__ = ["AsyncBackend", "Backend", "MemoryBackend"]
