"""Counts in one SQLite file, for all processes of one host."""

from __future__ import annotations

from ratelimit_mail.backends.sqlite.aio import AsyncSQLiteBackend
from ratelimit_mail.backends.sqlite.sync import SQLiteBackend

__all__ = ["AsyncSQLiteBackend", "SQLiteBackend"]
