"""Counts in the memory of one process."""

from __future__ import annotations

from ratelimit_mail.backends.memory.backend import MemoryBackend

__all__ = ["MemoryBackend"]
