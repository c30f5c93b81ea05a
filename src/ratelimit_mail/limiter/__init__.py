"""Limiter and AsyncLimiter: a policy and a backend, and what one asks of them."""

from typing import TYPE_CHECKING, Any

from ratelimit_mail.limiter.blocking import Limiter, Reservation

if TYPE_CHECKING:
    from ratelimit_mail.limiter.awaited import AsyncLimiter, AsyncReservation

__all__ = ["AsyncLimiter", "AsyncReservation", "Limiter", "Reservation"]


def __getattr__(name: str) -> Any:
    if name in ("AsyncLimiter", "AsyncReservation"):
        # Here, because most programs have one colour.
        from ratelimit_mail.limiter import awaited

        return getattr(awaited, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
