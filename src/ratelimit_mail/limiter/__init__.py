"""Limiter and AsyncLimiter: decide by a policy and count in a backend."""

from typing import TYPE_CHECKING, Any

from ratelimit_mail.limiter.sync import Limiter, Reservation

if TYPE_CHECKING:
    from ratelimit_mail.limiter.aio import AsyncLimiter, AsyncReservation

__all__ = ["AsyncLimiter", "AsyncReservation", "Limiter", "Reservation"]


def __getattr__(name: str) -> Any:
    if name in ("AsyncLimiter", "AsyncReservation"):
        # Imported here, because most programs use one of the two.
        from ratelimit_mail.limiter import aio

        return getattr(aio, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
