"""Limiter and AsyncLimiter: decide by a policy and count in a backend."""

from typing import TYPE_CHECKING

from ratelimit_mail._util.lazy_names import lazy_names
from ratelimit_mail.limiter.sync import Limiter

if TYPE_CHECKING:
    from ratelimit_mail.limiter.aio import AsyncLimiter
    from ratelimit_mail.limiter.reservations import AsyncReservation, Reservation

__all__ = ["AsyncLimiter", "AsyncReservation", "Limiter", "Reservation"]

# Loaded when first asked for: most programs use one of the two limiters, and book nothing.
__getattr__ = lazy_names(
    __name__,
    {
        "AsyncLimiter": "aio",
        "AsyncReservation": "reservations",
        "Reservation": "reservations",
    },
)
