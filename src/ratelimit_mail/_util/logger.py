"""Log to the logger `ratelimit_mail`, importing `logging` only when there is something to log."""

from __future__ import annotations

__all__ = ["log_info", "log_warning"]


def log_warning(message: str, *values: object) -> None:
    """Log what an administrator should know."""
    import logging

    logging.getLogger("ratelimit_mail").warning(message, *values)


def log_info(message: str, *values: object) -> None:
    """Log that something works again."""
    import logging

    logging.getLogger("ratelimit_mail").info(message, *values)
