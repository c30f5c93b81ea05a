"""Limiter and AsyncLimiter: decide by a policy and count in a backend."""

from importlib import import_module
from typing import TYPE_CHECKING

from ratelimit_mail.limiter.sync import Limiter

if TYPE_CHECKING:
    from ratelimit_mail.limiter.aio import AsyncLimiter
    from ratelimit_mail.limiter.reservations import AsyncReservation, Reservation

__all__ = ["AsyncLimiter", "AsyncReservation", "Limiter", "Reservation"]

# Loaded when first asked for: most programs use one of the two limiters, and book nothing.
_MODULE_OF = {
    "AsyncLimiter": "aio",
    "AsyncReservation": "reservations",
    "Reservation": "reservations",
}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"ratelimit_mail.limiter.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
