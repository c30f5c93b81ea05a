"""What the adapters for sending have in common: how they wait, and what was not sent."""

from __future__ import annotations

import math
from typing import Any, Final, Literal, TypeVar

import attrs

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import one_of
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.limiter.operations import milliseconds

__all__ = ["PUSHBACK", "NotSent", "OnExcess", "SendingOptions", "checked_limiter", "log_outage"]

AnyLimiter = TypeVar("AnyLimiter")

OnExcess = Literal["wait", "raise"]

PUSHBACK: Final = 60.0
"""For how many seconds a sender is blocked if a provider's "too fast" names no time."""


class NotSent(Exception):
    """Carries out of a limited call an error that was raised before anything was sent."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


def _seconds(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    milliseconds(attribute.name, value)


def _positive_or_none(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and not ((milliseconds(attribute.name, value) or 0) > 0):
        raise ValueError(f"{attribute.name}: {show(value)} is not above 0 seconds")


def _client_or_none(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, Client | None):
        raise TypeError(f"{attribute.name}: a Client is needed, not {show(value)}")


def _whole_or_none(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{attribute.name}: a whole number is needed, not {show(value)}")
    if value < 1:
        raise ValueError(f"{attribute.name}: {value} is not 1 or more")


@attrs.frozen(kw_only=True)
class SendingOptions:
    """How an adapter sends: the arguments that all adapters for sending take.

    on_excess: `"wait"` until a message may go, or `"raise"` at once if it may not go now.
    acquire_timeout: the most seconds to wait, as the `timeout` of `Limiter.acquire`.
    pushback: for how many seconds the sender is blocked if the server says "too fast" and names
        no time; None to block no sender.
    client: who submits the messages; it chooses the tier.
    max_connections: how many connections of one limiter may be open at once in this process.
    """

    on_excess: OnExcess = attrs.field(default="wait", validator=one_of("wait", "raise"))
    acquire_timeout: float | None = attrs.field(default=None, validator=_seconds)
    pushback: float | None = attrs.field(default=PUSHBACK, validator=_positive_or_none)
    client: Client | None = attrs.field(default=None, validator=_client_or_none)
    max_connections: int | None = attrs.field(default=None, validator=_whole_or_none)

    def __attrs_post_init__(self) -> None:
        if self.acquire_timeout is not None and self.on_excess != "wait":
            raise ValueError(
                f"acquire_timeout: only on_excess='wait' waits, not {self.on_excess!r}"
            )

    @property
    def longest_wait(self) -> float:
        """The most seconds to wait for a connection."""
        if self.on_excess == "raise":
            return 0.0
        return math.inf if self.acquire_timeout is None else self.acquire_timeout

    def limited(self, limiter: Any, envelope: Envelope) -> Any:
        """Return a decorator of the limiter for a call that sends the message of `envelope`.

        The message is refunded if the call raises NotSent.
        """
        return limiter.limited(
            on_denied=self.on_excess,
            timeout=self.acquire_timeout,
            envelope=lambda: envelope,
            refund_on=NotSent,
        )


def checked_limiter(limiter: object, kind: type[AnyLimiter]) -> AnyLimiter:
    """Return `limiter`; TypeError if it is not of the class that an adapter calls."""
    if not isinstance(limiter, kind):
        article = "an" if kind.__name__.startswith("A") else "a"
        raise TypeError(f"limiter: {article} {kind.__name__} is needed, not {show(limiter)}")
    return limiter


def log_outage(error: Exception) -> None:
    """Log that a server's "too fast" could not be recorded, which must not hide its reply."""
    log_warning("a sender is not blocked, although its provider asked to slow down: %s", error)
