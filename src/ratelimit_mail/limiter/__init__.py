"""Limiter and AsyncLimiter: a policy and a backend, and what one asks of them."""

from ratelimit_mail.limiter.awaited import AsyncLimiter, AsyncReservation
from ratelimit_mail.limiter.blocking import Limiter, Reservation

__all__ = ["AsyncLimiter", "AsyncReservation", "Limiter", "Reservation"]
